"""Counting the calls of a run without reuse, on networks that say little about themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.cache_utils import CacheMixin

from sencache import SenCacheConfig, SenCacheHandle, apply_sencache
from tests.sencache.support.toys import euler


class Plain(torch.nn.Module):
    """A network of no known family and without a config; gives two outputs."""

    def forward(self, x: Any, timestep: Any, text: Any = None, *, timestep_r: Any = None) -> Any:
        return x, text


class Reset(Plain, CacheMixin):
    """The same, of those that diffusers resets at the end of a pipeline's call."""


class Pipe:
    """A pipeline that calls its network as a test says."""

    def __init__(self, network: torch.nn.Module, scheduler: Any) -> None:
        self.transformer, self.scheduler = network, scheduler
        self.do_classifier_free_guidance: bool | None = None


NONE = SenCacheConfig(policy="none")


def counted(network: torch.nn.Module, scheduler: Any) -> tuple[Pipe, SenCacheHandle]:
    pipe = Pipe(network, scheduler)
    return pipe, apply_sencache(pipe, NONE)


def told(cache: SenCacheHandle) -> list[tuple[int, int]]:
    return [(each.nfe, each.evaluations) for each in cache.stats()]


def loop(
    pipe: Pipe, steps: Sequence[int], rows: Sequence[int], *, begin: int | None = None
) -> None:
    """A sampling loop whose steps call the network as often as `steps` says.

    Args:
        pipe: The pipeline.
        steps: Calls of each step.
        rows: Rows of each call of a step.
        begin: Step to begin at, where the scheduler counts.
    """
    pipe.scheduler.set_timesteps(len(steps) + (begin or 0))
    if begin is not None and hasattr(pipe.scheduler, "set_begin_index"):
        pipe.scheduler.set_begin_index(begin)
    x = torch.randn(rows[0], 2, 3)
    for calls, time in zip(steps, pipe.scheduler.timesteps[begin or 0 :], strict=True):
        for call in range(calls):
            given = x[:1].repeat(rows[call], 1, 1) if rows[call] != len(x) else x
            pipe.transformer(given, time.expand(rows[call]))
        x = pipe.scheduler.step(torch.zeros_like(x), time, x, return_dict=False)[0]


@pytest.mark.parametrize("scheduler", [euler, DDIMScheduler])
@pytest.mark.parametrize("begin", [None, 0, 3])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_steps_are_found_whatever_the_calls_of_each(scheduler: Any, begin: Any, calls: int) -> None:
    pipe, cache = counted(Plain(), scheduler())
    loop(pipe, [calls] * 6, [3] * calls, begin=begin)
    assert told(cache) == [(6, 6 * calls)] * 3


@pytest.mark.parametrize("scheduler", [euler, DDIMScheduler])
def test_guidance_may_begin_and_end_in_mid_run(scheduler: Any) -> None:
    pipe, cache = counted(Plain(), scheduler())
    loop(pipe, [1, 2, 2, 1, 1, 2], [3, 3])
    assert told(cache) == [(6, 9)] * 3


def test_two_equal_halves_are_two_branches_unless_guidance_is_off() -> None:
    for guidance, samples in ((None, 2), (True, 2), (False, 4)):
        pipe, cache = counted(Plain(), euler())
        pipe.do_classifier_free_guidance = guidance
        pipe.scheduler.set_timesteps(1)
        x = torch.randn(2, 2, 3)
        pipe.transformer(torch.cat([x, x]), pipe.scheduler.timesteps)
        assert len(cache.stats()) == samples


def test_a_list_of_latents_has_a_sample_per_item() -> None:
    pipe, cache = counted(Plain(), euler())
    pipe.scheduler.set_timesteps(1)
    x = [torch.randn(2, 3), torch.randn(2, 3)]
    answer = pipe.transformer(x, pipe.scheduler.timesteps, "text")
    assert answer[0] is x
    assert answer[1] == "text"
    assert told(cache) == [(1, 1)] * 2


def test_a_new_run_begins_with_new_timesteps_and_a_broken_one_does_not_show() -> None:
    pipe, cache = counted(Plain(), euler())
    loop(pipe, [1] * 6, [2])
    loop(pipe, [1] * 4, [2])
    assert told(cache) == [(4, 4)] * 2
    with pytest.raises(TypeError):
        pipe.transformer()
    loop(pipe, [1] * 3, [1])
    assert told(cache) == [(3, 3)]


def test_sections_of_one_clip_are_one_run_of_a_network_that_is_reset() -> None:
    network = Reset()
    pipe, cache = counted(network, euler())
    for _ in range(2):
        for _ in range(3):
            loop(pipe, [1] * 4, [2], begin=0)
        network._reset_stateful_cache()
        assert told(cache) == [(12, 12)] * 2
    loop(pipe, [1] * 2, [2], begin=0)
    pipe.scheduler.set_timesteps(9)  # broken off before its last step
    pipe.transformer(torch.randn(2, 2, 3), pipe.scheduler.timesteps[:1])
    loop(pipe, [1] * 4, [2], begin=0)
    assert told(cache) == [(4, 4)] * 2


def test_a_network_alone_begins_a_run_where_time_turns_back() -> None:
    network = Plain()
    cache = apply_sencache(network, NONE)
    for time in (900.0, 600.0, 600.0, 300.0, 900.0, 600.0):
        network(torch.randn(2, 2, 3), torch.tensor([time]))
    assert told(cache) == [(2, 2)] * 2


def test_statistics_cost_no_transfer_until_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__"):
        original = getattr(torch.Tensor, name)

        def noted(
            self: torch.Tensor, *args: Any, _name: str = name, _original: Any = original
        ) -> Any:
            waits.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, noted)
    network = Plain()
    cache = apply_sencache(network, NONE)
    x, times = torch.randn(3, 2, 3), torch.tensor([900.0, 600.0, 300.0])
    for step in range(3):
        network(x, times[step : step + 1])
    assert waits == []
    cache.stats()
    assert waits == ["tolist"]
