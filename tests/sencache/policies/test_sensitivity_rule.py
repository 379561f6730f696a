"""The verdicts against the paper's formula written out for one row in plain Python.

All numbers are multiples of small powers of two, so that both sides are exact in float32 and a
score that equals the threshold is decided, not rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sencache import SenCacheConfig
from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.hook.call import row_rms
from sencache.policies.official import OfficialRule
from sencache.policies.sensitivity_rule import SensitivityRule, Verdict
from sencache.profiles.interpolation import SensitivityCurve
from tests.property_examples import examples


@dataclass
class Case:
    config: SenCacheConfig
    a_x: list[float]  # at tau = 0, 1/2, 1
    a_t: list[float]
    taus: list[float]  # per step
    paths: list[list[float]]  # per row and step: a latent of one element


@st.composite
def cases(draw: st.DrawFn) -> Case:
    def eighths(high: int) -> st.SearchStrategy[float]:
        return st.integers(0, high).map(lambda k: k / 8)

    steps = draw(st.integers(1, 12))
    config = SenCacheConfig(
        policy=draw(st.sampled_from(["paper", "paper", "paper", "none"])),
        epsilon=draw(eighths(16)),
        max_reuse=draw(st.integers(1, 4)),
        strict_epsilon=draw(eighths(4)),
        strict_fraction=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    )
    taus = draw(st.lists(st.integers(0, 16), min_size=steps, max_size=steps))
    if draw(st.booleans()):
        taus.sort(reverse=True)
    elements = st.integers(-8, 8).map(lambda k: k / 4)
    if draw(st.booleans()):
        elements |= st.sampled_from([math.nan, math.inf])
    row = st.lists(elements, min_size=steps, max_size=steps)
    return Case(
        config,
        draw(st.lists(eighths(8), min_size=3, max_size=3)),
        draw(st.lists(eighths(8), min_size=3, max_size=3)),
        [tau / 16 for tau in taus],
        draw(st.lists(row, min_size=1, max_size=4)),
    )


def interpolate(values: list[float], tau: float) -> float:
    left = 0 if tau <= 0.5 else 1
    return values[left] + (tau - left / 2) * 2 * (values[left + 1] - values[left])


def oracle(case: Case, path: list[float]) -> tuple[str, list[float]]:
    """Decisions and scores of one row, straight from the paper's rule."""
    config, steps = case.config, len(case.taus)
    decisions, scores = "", []
    tau_r = x_r = a_x = a_t = 0.0
    reuses = 0
    share = Decimal(config.strict_fraction) * steps  # exact: the fractions are binary
    strict_steps = share.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    for step, (tau, x) in enumerate(zip(case.taus, path, strict=True)):
        score = a_x * abs(x - x_r) + a_t * abs(tau - tau_r)
        epsilon = config.epsilon
        if step < strict_steps:
            epsilon = min(epsilon, config.strict_epsilon)
        reuse = (
            config.policy == "paper"
            and 0 < step < steps - 1
            and epsilon > 0
            and score <= epsilon
            and reuses < config.max_reuse
            and tau <= case.taus[step - 1]
        )
        scores.append(score)
        if reuse:
            decisions, reuses = decisions + "R", reuses + 1
        else:
            decisions, reuses = decisions + "C", 0
            tau_r, x_r = tau, x
            a_x, a_t = interpolate(case.a_x, tau), interpolate(case.a_t, tau)
    return decisions, scores


def drive(case: Case) -> tuple[list[str], list[list[float]]]:
    """The same for all rows at once, through the policy."""
    knots = torch.tensor([0.0, 0.5, 1.0])
    policy = SensitivityRule(
        case.config, SensitivityCurve(knots, torch.tensor([case.a_x, case.a_t]))
    )
    x = torch.tensor(case.paths)
    rows, steps = x.shape
    decisions = [""] * rows
    scores: list[list[float]] = [[] for _ in range(rows)]
    memory, x_r = None, x[:, :1]
    for step in range(steps):
        tau, now = torch.full((rows,), case.taus[step]), x[:, step : step + 1]
        threshold = policy.threshold(step, steps)
        if memory is None:
            assert threshold == 0
            memory, x_r = policy.begin(tau), now
            compute, score = torch.ones(rows, dtype=torch.bool), torch.full((rows,), math.nan)
        else:
            verdict = policy.verdict(memory, tau, row_rms(now - x_r), threshold)
            compute, score = verdict.compute, verdict.score
            memory = policy.advance(memory, tau, verdict, torch.zeros(rows))
            x_r = torch.where(compute[:, None], now, x_r)
        for row in range(rows):
            decisions[row] += "C" if compute[row] else "R"
            scores[row].append(score[row].item())
    return decisions, scores


@pytest.mark.slow
@settings(max_examples=examples(1000), deadline=None)
@given(cases())
def test_policy_equals_the_formula(case: Case) -> None:
    decisions, scores = drive(case)
    for row, path in enumerate(case.paths):
        wanted, wanted_scores = oracle(case, path)
        assert decisions[row] == wanted
        assert scores[row][1:] == pytest.approx(wanted_scores[1:], abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize(
    ("step", "threshold"), [(0, 0.0), (1, 0.01), (9, 0.01), (10, 0.1), (48, 0.1), (49, 0.0)]
)
def test_threshold_over_the_papers_fifty_steps(step: int, threshold: float) -> None:
    assert SensitivityRule(SenCacheConfig(), None).threshold(step, 50) == threshold


@pytest.mark.parametrize(
    ("fraction", "steps", "strict"),
    [(0.25, 10, 2), (0.25, 14, 4), (0.3, 12, 4), (0.29, 12, 3), (0.03, 12, 0), (1.0, 7, 7)],
)
def test_the_strict_phase_is_rounded_to_whole_steps(
    fraction: float, steps: int, strict: int
) -> None:
    policy = SensitivityRule(SenCacheConfig(strict_fraction=fraction), None)
    thresholds = [policy.threshold(step, steps) for step in range(steps)]
    inner = ([0.01] * strict + [0.1] * steps)[1 : steps - 1]
    assert thresholds == [0.0, *inner, 0.0]


def test_strict_threshold_is_never_looser() -> None:
    config = SenCacheConfig(epsilon=0.001, strict_epsilon=0.01)
    assert SensitivityRule(config, None).threshold(5, 50) == 0.001


def rule_of(config: SenCacheConfig, curve: SensitivityCurve | None) -> SensitivityRule:
    if config.policy == "official":
        return OfficialRule(config, curve, OFFICIAL_SETTINGS["ltx"])
    return SensitivityRule(config, curve)


@pytest.mark.parametrize("policy", ["paper", "official"])
def test_at_equality_the_paper_reuses_and_the_authors_code_does_not(policy: Any) -> None:
    config = SenCacheConfig(policy=policy, epsilon=0.5)
    rule = rule_of(config, constant(1.0, 0.0))
    memory = rule.begin(torch.tensor([1.0, 1.0]))
    verdict = rule.verdict(memory, torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.49]), 0.5)
    assert verdict.compute.tolist() == [policy == "official", False]


@given(
    st.integers(2, 30),
    st.floats(0, 1),
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["paper", "official", "none"]),
)
def test_thresholds_by_position_are_those_by_step(
    steps: int, fraction: float, final: int, epsilon: float, strict: float, policy: Any
) -> None:
    config = SenCacheConfig(
        policy=policy,
        epsilon=epsilon,
        strict_epsilon=strict,
        strict_fraction=fraction,
        final_computed=final,
    )
    rule = rule_of(config, None)
    by_position = rule.thresholds(torch.arange(1, steps), steps).tolist()
    assert by_position == pytest.approx([rule.threshold(step, steps) for step in range(1, steps)])


def constant(a_x: float, a_t: float) -> SensitivityCurve:
    return SensitivityCurve(torch.tensor([0.0, 1.0]), torch.tensor([[a_x, a_x], [a_t, a_t]]))


@pytest.mark.parametrize("wrong", [0.02, 0.2, 1.0, 5.0, 50.0])
def test_correction_makes_a_wrong_profile_predict_right_after_one_refresh(wrong: float) -> None:
    config = SenCacheConfig(correct=True)
    rule = SensitivityRule(config, constant(wrong, 0.0))
    tau = torch.tensor([1.0])
    memory = rule.begin(tau)
    verdict = rule.verdict(memory, tau, torch.tensor([0.25]), 0.0)
    assert verdict.score.item() == pytest.approx(0.25 * wrong)  # nothing learnt yet
    memory = rule.advance(memory, tau, verdict, torch.tensor([0.25]))
    assert rule.verdict(memory, tau, torch.tensor([0.4]), 0.0).score.item() == pytest.approx(0.4)


def test_correction_is_the_weighted_geometric_mean_of_the_ratios() -> None:
    rule = SensitivityRule(SenCacheConfig(correct=True), constant(1.0, 0.0))
    tau, ratios = torch.tensor([1.0]), [2.0, 0.5, 3.0, 1.5]
    memory, one = rule.begin(tau), torch.tensor([1.0])
    for ratio in ratios:
        verdict = rule.verdict(memory, tau, one, 0.0)
        memory = rule.advance(memory, tau, verdict, torch.tensor([ratio]))
    weights = [0.5**k for k in range(len(ratios), 0, -1)]
    logs = sum(w * math.log(r) for w, r in zip(weights, ratios, strict=True)) / sum(weights)
    assert rule.verdict(memory, tau, one, 0.0).score.item() == pytest.approx(math.exp(logs))


@pytest.mark.parametrize("change", [math.nan, math.inf, 0.0, 1e9])
def test_correction_believes_no_freak_step(change: float) -> None:
    rule = SensitivityRule(SenCacheConfig(correct=True), constant(1.0, 0.0))
    tau, one = torch.tensor([1.0]), torch.tensor([1.0])
    memory = rule.begin(tau)
    memory = rule.advance(memory, tau, rule.verdict(memory, tau, one, 0.0), torch.tensor([change]))
    assert 0.0099 < rule.verdict(memory, tau, one, 0.0).score.item() < 100.1


def test_correction_learns_nothing_from_reuse_nor_from_a_move_of_nothing() -> None:
    rule = SensitivityRule(SenCacheConfig(correct=True, epsilon=2.0), constant(1.0, 0.0))
    tau = torch.tensor([1.0, 1.0])
    memory = rule.begin(tau)
    verdict = rule.verdict(memory, tau, torch.tensor([1.0, 0.0]), 2.0)
    assert not verdict.compute.any()
    memory = rule.advance(memory, tau, verdict, torch.tensor([7.0, 7.0]))
    still = Verdict(torch.ones(2, dtype=torch.bool), verdict.score, torch.zeros(2))
    memory = rule.advance(memory, tau, still, torch.tensor([7.0, 7.0]))
    assert rule.verdict(memory, tau, torch.ones(2), 0.0).score.tolist() == [1.0, 1.0]


def test_unknown_number_of_steps_is_an_error_only_where_it_matters() -> None:
    with pytest.raises(ValueError, match=r"set SenCacheConfig\.num_inference_steps"):
        SensitivityRule(SenCacheConfig(), None).threshold(1, None)
    assert SensitivityRule(SenCacheConfig(policy="none"), None).threshold(1, None) == 0.0


def test_rms_is_per_row_and_in_float32() -> None:
    values = torch.tensor([[[3.0, -3.0]], [[0.0, 0.0]], [[1.0, 7.0]]])
    assert row_rms(values).tolist() == [3.0, 0.0, 5.0]
    # 300^2 does not fit float16.
    assert row_rms(torch.full((1, 4), 300.0, dtype=torch.float16)).tolist() == [300.0]


def test_a_threshold_of_zero_computes_also_what_has_not_moved() -> None:
    """As a number for all rows, and as one per row."""
    rule = SensitivityRule(SenCacheConfig(epsilon=0.5), constant(1.0, 0.0))
    memory = rule.begin(torch.tensor([1.0, 1.0]))
    tau, still = torch.tensor([0.5, 0.5]), torch.zeros(2)
    for_all = rule.verdict(memory, tau, still, 0.0)
    assert (for_all.compute.tolist(), for_all.all_compute) == ([True, True], True)
    by_row = rule.verdict(memory, tau, still, torch.tensor([0.0, 0.25]))
    assert (by_row.compute.tolist(), by_row.all_compute) == ([True, False], False)
    assert rule.verdict(memory, tau, still, 0.25).compute.tolist() == [False, False]


def test_a_row_whose_time_rises_after_a_reuse_computes() -> None:
    rule = SensitivityRule(SenCacheConfig(epsilon=9.0, max_reuse=5), constant(1.0, 0.0))
    memory = rule.begin(torch.tensor([1.0]))
    seen = []
    for tau in (0.8, 0.5, 0.6, 0.6, 0.4):
        now = torch.tensor([tau])
        verdict = rule.verdict(memory, now, torch.zeros(1), 9.0)
        memory = rule.advance(memory, now, verdict, torch.zeros(1))
        seen.append("C" if verdict.compute.item() else "R")
    assert "".join(seen) == "RRCRR"


def test_every_reuse_in_a_row_counts_towards_the_cap() -> None:
    rule = SensitivityRule(SenCacheConfig(epsilon=9.0, max_reuse=2), constant(1.0, 0.0))
    memory = rule.begin(torch.tensor([1.0]))
    seen = []
    for step in range(1, 8):
        now = torch.tensor([1.0 - step / 10])
        # The third step is computed by everyone, as the first and the last of a run are.
        threshold = 0.0 if step == 3 else 9.0
        verdict = rule.verdict(memory, now, torch.zeros(1), threshold)
        memory = rule.advance(memory, now, verdict, torch.zeros(1))
        seen.append("C" if verdict.compute.item() else "R")
    assert "".join(seen) == "RRCRRCR"
    assert memory.reuses.item() == 1


@pytest.mark.parametrize(
    ("change", "factor"), [(1e-9, 0.01), (0.012, 0.012), (80.0, 80.0), (1e9, 100.0)]
)
def test_a_correction_goes_as_far_as_a_hundredth_and_a_hundred(
    change: float, factor: float
) -> None:
    rule = SensitivityRule(SenCacheConfig(correct=True), constant(1.0, 0.0))
    tau, one = torch.tensor([1.0]), torch.tensor([1.0])
    memory = rule.begin(tau)
    memory = rule.advance(memory, tau, rule.verdict(memory, tau, one, 0.0), torch.tensor([change]))
    assert rule.verdict(memory, tau, one, 0.0).score.item() == pytest.approx(factor, rel=1e-4)


def test_what_was_computed_is_what_the_next_score_begins_at() -> None:
    """a_x falls from 4 to 0 with tau and a_t rises from 0 to 4: S = 2 x 1 + 2 x 0.25 at tau 1/2."""
    curve = SensitivityCurve(torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 4.0], [4.0, 0.0]]))
    rule = SensitivityRule(SenCacheConfig(epsilon=9.0), curve)
    memory = rule.begin(torch.tensor([1.0, 1.0]))
    half = torch.tensor([0.5, 0.5])
    one_row = Verdict(torch.tensor([True, False]), torch.zeros(2), torch.zeros(2))
    memory = rule.advance(memory, half, one_row, torch.zeros(2))
    score = rule.verdict(memory, torch.tensor([0.25, 0.25]), torch.ones(2), 9.0).score
    assert score.tolist() == [2.0 * 1 + 2.0 * 0.25, 4.0 * 1 + 0.0 * 0.75]
    everyone = rule.verdict(memory, half, torch.zeros(2), 0.0)
    memory = rule.advance(memory, half, everyone, torch.zeros(2))
    score = rule.verdict(memory, torch.tensor([0.25, 0.25]), torch.ones(2), 9.0).score
    assert score.tolist() == [2.5, 2.5]
