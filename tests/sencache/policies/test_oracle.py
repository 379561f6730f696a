"""The cache against an oracle written from the formulae alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sencache import SenCacheConfig, apply_sencache, remove_sencache
from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.hook.call import row_rms
from sencache.policies.official import OfficialRule
from sencache.policies.sensitivity_rule import SensitivityRule
from sencache.profiles.interpolation import SensitivityCurve
from sencache.profiles.official import OfficialProfile
from sencache.profiles.profile import SensitivityProfile
from tests.sencache.support.oracle import Outcome, official_decisions, paper_decisions
from tests.sencache.support.toys import LINEAR, LinearTransformer, make_profile

SHAPE = (2, 3, 4)
CLOSE = 1e-5  # relative; single precision may decide otherwise there

quiet = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@dataclass
class Case:
    """A run: what it is decided by, and what the oracle says of it."""

    config: SenCacheConfig
    profile: SensitivityProfile | OfficialProfile
    x: list[np.ndarray]
    t: list[float]
    wanted: list[Outcome]


class Rare:
    """Sorts out cases that single precision might decide otherwise, and counts them."""

    def __init__(self) -> None:
        self.seen = self.close = 0

    def check(self, case: Case) -> None:
        close = any(outcome.margin < CLOSE for outcome in case.wanted)
        self.seen, self.close = self.seen + 1, self.close + close
        assume(not close)

    def confirm(self, least: int) -> None:
        assert self.seen >= least
        assert self.close < 0.01 * self.seen


def walk(random: np.random.Generator, rows: int, steps: int) -> list[np.ndarray]:
    """Latents that move by steps of very different size, and sometimes come back or stay."""
    x = [random.standard_normal((rows, *SHAPE))]
    for _ in range(steps - 1):
        size = random.choice([0.0, 0.01, 0.1, 0.5], size=(rows, 1, 1, 1), p=[0.1, 0.3, 0.3, 0.3])
        back = random.random((rows, 1, 1, 1)) < 0.15
        step = x[-1] + size * random.standard_normal((rows, *SHAPE))
        x.append(np.where(back, x[random.integers(len(x))], step))
    return [values.astype(np.float32) for values in x]


def times(random: np.random.Generator, steps: int) -> list[float]:
    """Falling timesteps, close together or far apart; quarters are exact in single precision."""
    span = random.choice([200, 1000, 4000])
    return sorted(((4000 - random.integers(0, span, steps)) / 4).tolist(), reverse=True)


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps, rows = draw(st.sampled_from(range(1, 15))), draw(st.integers(1, 4))
    x, t = walk(random, rows, steps), times(random, steps)
    # Thresholds about as large as scores are after one to a few steps.
    epsilon = draw(st.sampled_from([0.1, 0.3, 1.0, 3.0])) * (0.5 + random.random())
    strict = draw(st.sampled_from([0.0, 0.1, 0.5, 1.5])) * epsilon
    config = SenCacheConfig(
        policy="paper" if kind == "paper" else "official",
        epsilon=epsilon,
        strict_epsilon=strict,
        strict_fraction=draw(st.sampled_from([0.0, 0.2, 0.3, 0.5, 1.0])),
        max_reuse=draw(st.sampled_from([1, 2, 3, 10])),
        final_computed=draw(st.sampled_from([0, 1, 1, 2])),
        reuse="output",
    )
    points = draw(st.integers(2, 8))
    a_x, a_t = (2 * random.random((2, points))).astype(np.float32).tolist()
    build = paper_case if kind == "paper" else official_case
    return build(config, x, t, a_x, a_t, draw(st.sampled_from(sorted(OFFICIAL_SETTINGS))), random)


def paper_case(
    config: SenCacheConfig,
    x: list[np.ndarray],
    t: list[float],
    a_x: list[float],
    a_t: list[float],
    _family: str,
    _random: np.random.Generator,
) -> Case:
    profile = make_profile(a_x, a_t, family="linear")
    tau = [point.tau for point in profile.branches["cond"]][::-1]
    wanted = paper_decisions(
        x,
        t,
        (tau, a_x[::-1], a_t[::-1]),
        epsilon=config.epsilon,
        strict_epsilon=config.strict_epsilon,
        strict_fraction=config.strict_fraction,
        n=config.max_reuse,
        final=config.final_computed,
    )
    return Case(config, profile, x, t, wanted)


def official_case(
    config: SenCacheConfig,
    x: list[np.ndarray],
    t: list[float],
    a_x: list[float],
    a_t: list[float],
    family: str,
    random: np.random.Generator,
) -> Case:
    # Back to absolute norms, so that scores are as large as those of the paper's cases.
    scale, elements = OFFICIAL_SETTINGS[family].scale, math.prod(SHAPE)
    j_x = [value * scale / math.sqrt(elements) for value in a_x]
    j_t = [value * scale / 1000 for value in a_t]
    stored = [1000, *random.integers(0, 1000, len(a_x) - 1).tolist()]
    if random.random() < 0.5:  # near the run, so that some of its times lie halfway
        stored = [1000 - 2 * index for index in range(len(a_x))]
    wanted = official_decisions(
        x,
        t,
        (stored, j_x, j_t),
        scale,
        epsilon=config.epsilon,
        strict_epsilon=config.strict_epsilon,
        strict_fraction=config.strict_fraction,
        n=config.max_reuse,
        calls_per_step=OFFICIAL_SETTINGS[family].calls_per_step,
        final=config.final_computed,
    )
    profile = OfficialProfile(tuple(stored), tuple(j_x), tuple(j_t), family)
    return Case(config, profile, x, t, wanted)


def through_policy(case: Case) -> list[str]:
    """Decisions of the policy alone, all rows at once."""
    policy: SensitivityRule
    if isinstance(case.profile, OfficialProfile):
        curve = case.profile.curve("cond", math.prod(SHAPE))
        policy = OfficialRule(case.config, curve, OFFICIAL_SETTINGS[case.profile.family])
    else:
        policy = SensitivityRule(case.config, case.profile.curve("cond"))
    rows, steps = len(case.x[0]), len(case.x)
    decisions = [""] * rows
    memory, x_r = None, torch.from_numpy(case.x[0])
    for step, (values, timestep) in enumerate(zip(case.x, case.t, strict=True)):
        x, tau = torch.from_numpy(values), torch.full((rows,), timestep) / 1000
        if memory is None:
            memory, compute = policy.begin(tau), torch.ones(rows, dtype=torch.bool)
        else:
            threshold = policy.threshold(step, steps)
            verdict = policy.verdict(memory, tau, row_rms(x - x_r), threshold)
            compute = verdict.compute
            memory = policy.advance(memory, tau, verdict, torch.zeros(rows))
            x_r = torch.where(compute[:, None, None, None], x, x_r)
        for row in range(rows):
            decisions[row] += "C" if compute[row] else "R"
    return decisions


def through_pipeline(case: Case, calls: str) -> tuple[list[str], list[torch.Tensor]]:
    """Decisions of the applied cache, and the conditional branch's output per step."""
    network = LinearTransformer(1.5, 2.0)
    name = case.profile.family if isinstance(case.profile, OfficialProfile) else "linear"
    family = replace(LINEAR, name=name)
    handle = apply_sencache(network, case.config, case.profile, family=family)
    rows, steps = len(case.x[0]), len(case.x)
    text = torch.arange(1.0, rows + 1)
    outputs = []
    for step, (values, timestep) in enumerate(zip(case.x, case.t, strict=True)):
        latents, t = torch.from_numpy(values), torch.full((rows,), timestep)
        where = {"step_index": step, "num_inference_steps": steps}
        if calls == "one for both":
            with network.cache_context("cond_uncond", **where):
                both = network(latents.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([0 * text, text]))
            outputs.append(both[0][rows:])
            continue
        with network.cache_context("cond", **where):
            outputs.append(network(latents, t, text)[0])
        if calls == "two":
            with network.cache_context("uncond", **where):
                network(latents, t, 0 * text)
    decisions = [sample.decisions for sample in handle.stats()]
    if case.wanted:
        ran = sum(outcome.decisions.count("C") for outcome in case.wanted)
        assert sum(network.calls) == ran * (1 if calls == "cond only" else 2)
    remove_sencache(network)
    return decisions, outputs


def expected_outputs(case: Case) -> list[torch.Tensor]:
    """What a linear network gives at the steps whose results the oracle says are used."""
    network = LinearTransformer(1.5, 2.0)
    rows = len(case.x[0])
    text = torch.arange(1.0, rows + 1)
    every = [
        network(torch.from_numpy(x), torch.full((rows,), t), text)[0]
        for x, t in zip(case.x, case.t, strict=True)
    ]
    return [
        torch.stack([every[outcome.sources[step]][row] for row, outcome in enumerate(case.wanted)])
        for step in range(len(case.x))
    ]


def differential(kind: str, examples: int, check: Callable[[Case, str], None]) -> None:
    rare = Rare()

    @settings(quiet, max_examples=examples)
    @given(cases(kind), st.sampled_from(["cond only", "two", "one for both"]))
    def compare(case: Case, calls: str) -> None:
        rare.check(case)
        check(case, calls)

    compare()
    rare.confirm(examples)


both_kinds = pytest.mark.parametrize("kind", ["paper", "official"])


def examples(few: int, many: int) -> pytest.MarkDecorator:
    """Run a test on few examples, and in the variant on many."""
    return pytest.mark.parametrize(
        "examples", [few, pytest.param(many, marks=(pytest.mark.slow, pytest.mark.variant))]
    )


@pytest.mark.slow
@both_kinds
@examples(100, 1000)
def test_the_policy_decides_as_the_oracle(kind: str, examples: int) -> None:
    def check(case: Case, _calls: str) -> None:
        assert through_policy(case) == [outcome.decisions for outcome in case.wanted]

    differential(kind, examples, check)


@pytest.mark.slow
@both_kinds
@examples(50, 500)
def test_the_applied_cache_decides_and_answers_as_the_oracle(kind: str, examples: int) -> None:
    def check(case: Case, calls: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the profiles are of other runs
            decisions, outputs = through_pipeline(case, calls)
        assert decisions == [outcome.decisions for outcome in case.wanted]
        for output, expected in zip(outputs, expected_outputs(case), strict=True):
            torch.testing.assert_close(output, expected)

    differential(kind, examples, check)


@pytest.mark.slow
@both_kinds
def test_the_cases_reach_both_verdicts_and_every_limit(kind: str) -> None:
    """The comparison would prove little if nearly all steps were decided alike."""
    seen = {"C": 0, "R": 0, "all reused": 0, "capped": 0, "last reused": 0}

    @settings(quiet, max_examples=300, database=None, derandomize=True)
    @given(cases(kind))
    def look(case: Case) -> None:
        for outcome in case.wanted:
            inner = outcome.decisions[1:]
            seen["C"] += inner.count("C")
            seen["R"] += inner.count("R")
            seen["all reused"] += "R" * 4 in inner
            seen["capped"] += "R" * case.config.max_reuse + "C" in inner
            seen["last reused"] += inner.endswith("R")

    look()
    assert 0.5 < seen["R"] / seen["C"] < 2, seen
    assert min(seen.values()) > 30, seen


def edge(score: float, kind: str, **fields: Any) -> str:
    """Decisions where the middle of three steps has a score that is exact in single precision."""
    config = SenCacheConfig(
        policy="paper" if kind == "paper" else "official",
        **({"strict_fraction": 0.0, "final_computed": 1, "reuse": "output"} | fields),
    )
    x = [np.full((1, *SHAPE), value, dtype=np.float32) for value in (0.0, score, 0.0)]
    table = ([1000, 0], [1.0, 1.0], [0.0, 0.0])
    t = [1000.0, 500.0, 0.0]
    knobs = {
        "epsilon": config.epsilon,
        "strict_epsilon": config.strict_epsilon,
        "strict_fraction": config.strict_fraction,
        "n": config.max_reuse,
        "final": config.final_computed,
    }
    if kind == "paper":
        wanted = paper_decisions(x, t, ([0, 1], *table[1:]), **knobs)
        curve: Any = SensitivityCurve(torch.tensor([0.0, 1.0]), torch.tensor(table[1:]))
        policy = SensitivityRule(config, curve)
    else:
        # a_x is 1 where J_x is scale / sqrt(elements); the score is that of a single element.
        wanted = official_decisions(x, t, table, math.sqrt(math.prod(SHAPE)), **knobs)
        curve = lambda tau: (torch.ones_like(tau), torch.zeros_like(tau))  # noqa: E731
        policy = OfficialRule(config, curve, OFFICIAL_SETTINGS["ltx"])
    one = torch.ones(1)
    verdict = policy.verdict(
        policy.begin(one), 0.5 * one, row_rms(torch.from_numpy(x[1])), policy.threshold(1, 3)
    )
    decided = "C" + ("C" if verdict.compute.item() else "R")
    assert wanted[0].decisions[:2] == decided
    return decided


def test_a_score_that_equals_the_threshold_is_reused_by_the_paper_only() -> None:
    assert edge(0.5, "paper", epsilon=0.5) == "CR"
    assert edge(0.5, "official", epsilon=0.5) == "CC"


@both_kinds
def test_a_score_just_beside_the_threshold(kind: str) -> None:
    assert edge(0.5, kind, epsilon=0.5 + 2**-20) == "CR"
    assert edge(0.5, kind, epsilon=0.5 - 2**-20) == "CC"


@both_kinds
def test_no_threshold_reuses_not_even_what_did_not_change(kind: str) -> None:
    assert edge(0.0, kind, epsilon=0.0) == "CC"
    assert edge(0.0, kind, epsilon=1.0, strict_epsilon=0.0, strict_fraction=1.0) == "CC"


def test_a_strict_threshold_that_is_the_larger_holds_in_the_authors_code_only() -> None:
    loose = {"epsilon": 0.25, "strict_epsilon": 1.0, "strict_fraction": 1.0}
    assert edge(0.5, "paper", **loose) == "CC"
    assert edge(0.5, "official", **loose) == "CR"
