"""The hook on a linear network, where every output and sensitivity is known exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from sencache import SenCacheConfig, SensitivityProfile
from tests.sencache.support.driving import (
    GAIN_T,
    GAIN_X,
    LOOSE,
    TAUS,
    cached,
    decisions,
    drive,
    finish,
    latents,
)
from tests.sencache.support.toys import make_profile


def test_the_score_of_a_linear_network_is_its_true_error() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9)
    transformer, handle = cached(config)
    outputs = drive(transformer, [0.1, 0.3])
    # Per step the output of row 0 moves by 2 * 0.1 + 3 * 0.1 = 0.5, of row 1 by 0.9.
    assert decisions(handle) == ["CRRCRRCRRC", "CRCRCRCRCC"]
    slow, fast = handle.stats()
    assert slow.predicted_error == pytest.approx(1.5, rel=1e-4)
    assert fast.predicted_error == pytest.approx((4 * 1.8 + 0.9) / 5, rel=1e-4)
    for stats, largest in ((slow, 1.0), (fast, 0.9)):
        assert stats.actual_error == pytest.approx(stats.predicted_error, rel=1e-4)
        assert stats.max_score == pytest.approx(largest, rel=1e-4)
    # A reused step returns the very output of the row's last computed step.
    assert torch.equal(outputs[2]["cond"][0], outputs[0]["cond"][0])
    assert torch.equal(outputs[2]["uncond"][0], outputs[0]["uncond"][0])
    assert not torch.equal(outputs[2]["cond"][1], outputs[0]["cond"][1])


def test_only_rows_that_need_it_go_through_the_network() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9)
    transformer, handle = cached(config)
    drive(transformer, [0.1, 0.3])
    per_step = [
        sum(ran == "C" for ran in column) for column in zip(*decisions(handle), strict=False)
    ]
    assert 0 in per_step
    assert 1 in per_step
    # Both branches of every step, and no call at all where no row computes.
    assert transformer.calls == [rows for rows in per_step if rows for _ in ("cond", "uncond")]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    speeds = [0.05, 0.4, 0.0, 0.2]
    config = SenCacheConfig(epsilon=1.0, strict_fraction=0.0)
    transformer, handle = cached(config)
    together, stats = drive(transformer, speeds), handle.stats()
    assert len({sample.decisions for sample in stats}) > 2
    for row, speed in enumerate(speeds):
        finish(transformer)
        alone = drive(transformer, [speed])
        assert handle.stats() == [stats[row]]
        for step, outputs in enumerate(alone):
            assert torch.equal(outputs["cond"][0], together[step]["cond"][row])
            assert torch.equal(outputs["uncond"][0], together[step]["uncond"][row])


def test_both_branches_in_one_call_decide_like_two_calls() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9)
    (one, one_handle), (two, two_handle) = cached(config), cached(config)
    packed = drive(one, [0.1, 0.3], contexts=["cond_uncond"])
    apart = drive(two, [0.1, 0.3])
    assert one_handle.stats() == two_handle.stats()
    for left, right in zip(packed, apart, strict=True):
        both = torch.cat([right["uncond"], right["cond"]])
        assert torch.equal(left["cond_uncond"], both)


def uneven_branches() -> SensitivityProfile:
    """A profile in which the unconditional branch is four times as sensitive."""
    cond = make_profile(GAIN_X, GAIN_T, family="linear")
    uncond = make_profile(4 * GAIN_X, 4 * GAIN_T, family="linear")
    return SensitivityProfile(
        cond.metadata, {"cond": cond.branches["cond"], "uncond": uncond.branches["uncond"]}
    )


@pytest.mark.parametrize("contexts", [("cond", "uncond"), ("cond_uncond",)])
def test_own_verdicts_let_the_branches_differ(contexts: tuple[str, ...]) -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9, uncond_verdict="own")
    transformer, handle = cached(config, uneven_branches())
    outputs = drive(transformer, [0.1], contexts=contexts)
    assert decisions(handle) == ["CRRCRRCRRC"]  # statistics are those of cond
    assert transformer.calls.count(1) == (14 if len(contexts) == 2 else 6)
    last = outputs[2][contexts[-1]]
    first = outputs[0][contexts[-1]]
    assert not torch.equal(last[0], first[0])  # uncond ran where cond reused


def test_following_ignores_the_other_branch_of_the_profile() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, max_reuse=9)
    transformer, handle = cached(config, uneven_branches())
    drive(transformer, [0.1])
    assert decisions(handle) == ["CRRCRRCRRC"]
    assert len(transformer.calls) == 8


def test_shared_arguments_are_not_gathered_even_if_their_size_is_the_batch() -> None:
    config = SenCacheConfig(epsilon=0.5, strict_fraction=0.0, num_inference_steps=len(TAUS))
    transformer, handle = cached(config)
    shared = torch.tensor([10.0, 20.0])
    for step in range(2):  # at step 1 only row 1 computes
        x, t = latents([0.0, 3.0], step), torch.full((2,), 1000 * TAUS[step])
        output = transformer(x, t, torch.zeros(2), shared, return_dict=False)[0]
    assert decisions(handle) == ["CR", "CC"]
    assert output[1, 0, 0, 0].item() == pytest.approx(10 * (2 * 2.0 + 3 * 0.9))


def test_the_answer_has_the_form_that_was_asked_for() -> None:
    transformer, handle = cached(
        SenCacheConfig(epsilon=0.9, strict_fraction=0.0, num_inference_steps=len(TAUS))
    )
    speeds, seen = [0.0, 1.0], set()
    for step in range(4):
        x, t = latents(speeds, step), torch.full((2,), 1000 * TAUS[step])
        named = transformer(hidden_states=x, timestep=t, encoder_hidden_states=torch.zeros(2))
        assert isinstance(named, Transformer2DModelOutput)
        assert named.sample.shape == x.shape
        seen.add(tuple(column[-1] for column in decisions(handle)))
    handle.reset()
    for step in range(4):
        x, t = latents(speeds, step), torch.full((2,), 1000 * TAUS[step])
        answer = transformer(x, t, torch.zeros(2), return_dict=False)
        assert isinstance(answer, tuple)
        assert len(answer) == 1
    assert ("R", "C") in seen


def test_condition_channels_neither_move_the_score_nor_thin_it() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, num_inference_steps=len(TAUS))
    transformer, handle = cached(config)
    for step in range(3):
        condition = torch.full((1, 6, 3, 4), 100.0)
        x = torch.cat([latents([0.1], step), condition], dim=1)
        transformer(x, torch.tensor([1000 * TAUS[step]]), torch.zeros(1))
    assert decisions(handle) == ["CRR"]
    assert handle.stats()[0].max_score == pytest.approx(1.0, rel=1e-4)


def test_the_caller_may_write_into_what_it_gets() -> None:
    transformer, handle = cached(LOOSE)
    for step in range(6):
        with transformer.cache_context("cond", step_index=step, num_inference_steps=len(TAUS)):
            x, t = latents([0.1], step), torch.full((1,), 1000 * TAUS[step])
            output = transformer(x, t, torch.zeros(1), return_dict=False)[0]
            if step == 0:
                wanted = output.clone()
            if decisions(handle)[0] in ("C", "CR", "CRR"):
                assert torch.equal(output, wanted)
            output.fill_(1e6)
            x.fill_(1e6)
    assert decisions(handle) == ["CRRCRR"]


def test_a_row_of_nan_is_never_reused_and_leaves_its_neighbour_alone() -> None:
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, num_inference_steps=len(TAUS))
    transformer, handle = cached(config)
    for step in range(6):
        x = latents([0.1, 0.1], step)
        if step >= 2:
            x[1] = torch.nan
        output = transformer(x, torch.full((2,), 1000 * TAUS[step]), torch.zeros(2)).sample
        assert output[0].isfinite().all()
        assert output[1].isfinite().all() == (step < 2)
    assert decisions(handle) == ["CRRRCR", "CRCCCC"]


def test_steps_need_not_be_published() -> None:
    config = SenCacheConfig(
        epsilon=1.4, strict_fraction=0.2, strict_epsilon=0.6, num_inference_steps=len(TAUS)
    )
    (told, told_handle), (silent, silent_handle) = cached(config), cached(config)
    wanted = drive(told, [0.1, 0.3])
    got = drive(silent, [0.1, 0.3], publish=False)
    assert silent_handle.stats() == told_handle.stats()
    for left, right in zip(got, wanted, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in right)


def test_timesteps_that_round_to_one_number_do_not_split_a_run() -> None:
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0, num_inference_steps=6)
    transformer, handle = cached(config)
    for step, tau in enumerate([1.0, 0.9, 0.9, 0.9, 0.8, 0.8]):
        transformer(latents([0.1], step), torch.tensor([1000 * tau]), torch.zeros(1))
    assert decisions(handle) == ["CRRRCC"]


def test_an_unknown_number_of_steps_is_told_on_the_first_call() -> None:
    transformer, _ = cached(SenCacheConfig())
    with pytest.raises(ValueError, match=r"set SenCacheConfig\.num_inference_steps"):
        drive(transformer, [0.1], publish=False, steps=1)


def test_more_steps_than_configured_are_told() -> None:
    transformer, _ = cached(SenCacheConfig(num_inference_steps=4))
    with pytest.raises(ValueError, match="num_inference_steps is 4 but the pipeline has come to"):
        drive(transformer, [0.1], publish=False)


@pytest.mark.parametrize("config", [SenCacheConfig(policy="none"), SenCacheConfig(epsilon=0.0)])
def test_without_reuse_the_number_of_steps_need_not_be_right(config: SenCacheConfig) -> None:
    config = dataclasses.replace(config, num_inference_steps=4)
    transformer, handle = cached(config)
    drive(transformer, [0.1], publish=False)
    assert decisions(handle) == ["C" * len(TAUS)]


def test_at_most_one_synchronisation_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way from a device tensor to a Python value is counted."""
    syncs: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__"):
        original = getattr(torch.Tensor, name)

        def counted(
            self: torch.Tensor, *args: Any, _name: str = name, _original: Any = original
        ) -> Any:
            syncs.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    config = SenCacheConfig(epsilon=1.4, strict_fraction=0.0)
    transformer, _ = cached(config)
    drive(transformer, [0.1, 0.3])
    assert syncs == ["tolist"] * (len(TAUS) - 2)  # none at the first and the last step
    syncs.clear()
    for publish in (True, False):
        transformer, _ = cached(SenCacheConfig(epsilon=0.0))
        drive(transformer, [0.1, 0.3], publish=publish)
        assert syncs == []
