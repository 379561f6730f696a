"""Where a run of the hook begins and ends: none shows in the next one, whatever broke it off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig
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
from tests.sencache.support.toys import LinearTransformer


@pytest.mark.parametrize("publish", [True, False])
@pytest.mark.parametrize("contexts", [("cond", "uncond"), ("cond",), ("cond_uncond",)])
@pytest.mark.parametrize("steps", [1, 2, 5, len(TAUS)])
def test_an_unfinished_run_leaves_nothing_behind(
    publish: bool, contexts: tuple[str, ...], steps: int
) -> None:
    """Same latents, other text: whatever were reused of the first run would show."""
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, num_inference_steps=len(TAUS))
    (fresh, fresh_handle), (used, used_handle) = cached(config), cached(config)
    drive(used, [0.1, 0.3], publish=publish, contexts=contexts, steps=steps, text=50.0)
    got = drive(used, [0.1, 0.3], publish=publish, contexts=contexts)
    wanted = drive(fresh, [0.1, 0.3], publish=publish, contexts=contexts)
    assert used_handle.stats() == fresh_handle.stats()
    for left, right in zip(got, wanted, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in right)


@contextmanager
def failing(transformer: LinearTransformer, at_call: int) -> Iterator[None]:
    """The network raises at its at_call-th evaluation from now."""
    gain, left = transformer.gain_x, at_call

    class Failing(float):
        def __mul__(self, other: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise RuntimeError("out of memory")
            return gain * other

    transformer.gain_x = Failing(gain)
    try:
        yield
    finally:
        transformer.gain_x = gain


@pytest.mark.parametrize("publish", [True, False])
@pytest.mark.parametrize("at_call", [0, 1, 2, 3, 4])
def test_a_network_that_raised_leaves_nothing_behind(publish: bool, at_call: int) -> None:
    config = SenCacheConfig(
        epsilon=1e9, strict_fraction=0.0, max_reuse=1, num_inference_steps=len(TAUS)
    )
    (fresh, fresh_handle), (used, used_handle) = cached(config), cached(config)
    with failing(used, at_call), pytest.raises(RuntimeError, match="out of memory"):
        drive(used, [0.1, 0.3], publish=publish, text=50.0)
    got = drive(used, [0.1, 0.3], publish=publish)
    wanted = drive(fresh, [0.1, 0.3], publish=publish)
    assert used_handle.stats() == fresh_handle.stats()
    for left, right in zip(got, wanted, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in right)


def test_another_shape_or_dtype_begins_anew() -> None:
    transformer, handle = cached(LOOSE)
    for x in (torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 5), torch.ones(2, 2, 3, 5).double()):
        with transformer.cache_context("cond", step_index=5, num_inference_steps=len(TAUS)):
            output = transformer(x, torch.full((len(x),), 500.0), torch.zeros(len(x))).sample
        assert output.shape == x.shape
        assert decisions(handle) == ["C"] * len(x)


def test_statistics_outlive_the_run_until_the_next_begins() -> None:
    transformer, handle = cached(LOOSE)
    assert handle.stats() == []
    drive(transformer, [0.1, 0.1])
    during = handle.stats()
    finish(transformer)
    assert handle.stats() == during
    assert decisions(handle) == ["CRRCRRCRRC"] * 2
    drive(transformer, [0.1], steps=2)
    assert decisions(handle) == ["CR"]


def loop_without_contexts(
    transformer: LinearTransformer, texts: Sequence[torch.Tensor], taus: Sequence[float] = TAUS
) -> None:
    for step, tau in enumerate(taus):
        x, t = latents([0.1, 0.3], step), torch.full((2,), 1000 * tau)
        for text in texts:
            transformer(x.clone(), t, text, return_dict=False)


def test_guidance_without_contexts_is_refused() -> None:
    """Both branches would share one memory, and one would be given out as the other."""
    transformer, _ = cached(SenCacheConfig(epsilon=1e9, num_inference_steps=len(TAUS)))
    with pytest.raises(ValueError, match=r'cache_context\("cond"\).*cache_context\("uncond"\)'):
        loop_without_contexts(transformer, [torch.ones(2), torch.zeros(2)])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_one_branch_without_contexts_works_also_after_an_unfinished_run(steps: int) -> None:
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, num_inference_steps=len(TAUS))
    transformer, handle = cached(config)
    loop_without_contexts(transformer, [torch.ones(2)], TAUS[:steps])
    loop_without_contexts(transformer, [torch.zeros(2)])
    assert decisions(handle) == ["CRRRCRRRCC"] * 2


def call_at(
    transformer: LinearTransformer, step: int, num_steps: int | None, *names: str
) -> list[torch.Tensor]:
    where = {} if num_steps is None else {"step_index": step, "num_inference_steps": num_steps}
    x, t = latents([0.1], step), torch.full((1,), 1000 - 10.0 * step)
    outputs = []
    for name in names:
        with transformer.cache_context(name, **where):
            outputs.append(transformer(x, t, torch.zeros(1), return_dict=False)[0])
    return outputs


def test_a_broken_off_run_of_other_steps_is_not_continued() -> None:
    """The second network of Wan 2.2 is entered midway, at a later step than the first run's."""
    transformer, handle = cached(LOOSE)
    for step in (15, 16, 17):
        call_at(transformer, step, 40, "cond")
    call_at(transformer, 18, 50, "cond")  # the next step, but of a run of 50
    assert decisions(handle) == ["C"]
    call_at(transformer, 25, 50, "cond")  # neither this step nor the next one
    assert decisions(handle) == ["C"]
    call_at(transformer, 26, 50, "cond")
    assert decisions(handle) == ["CR"]


def test_a_call_that_raised_ends_the_run() -> None:
    transformer, handle = cached(LOOSE)
    for step in (15, 16):
        call_at(transformer, step, 40, "cond")
    call_at(transformer, 17, 40, "cond")
    with failing(transformer, 0), pytest.raises(RuntimeError, match="out of memory"):
        call_at(transformer, 18, 40, "cond")
    call_at(transformer, 18, 40, "cond")
    assert decisions(handle) == ["C"]


def test_uncond_is_never_older_than_cond() -> None:
    """A callback may switch guidance off and on; cond has been computed anew meanwhile."""
    transformer, handle = cached(SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=2))
    for step, names in enumerate([["cond", "uncond"], ["cond"], ["cond"], ["cond"]]):
        call_at(transformer, step, 40, *names)
    assert decisions(handle) == ["CRRC"]
    _, uncond = call_at(transformer, 4, 40, "cond", "uncond")
    assert decisions(handle) == ["CRRCR"]
    fresh = LinearTransformer(GAIN_X, GAIN_T)
    (wanted,) = call_at(fresh, 4, 40, "uncond")
    assert torch.equal(uncond, wanted)
    again = call_at(transformer, 5, 40, "cond", "uncond")[1]
    assert torch.equal(again, wanted)  # and from here on it follows


def test_a_partial_run_of_unknown_end_reuses_nothing() -> None:
    config = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, num_inference_steps=20)
    transformer, handle = cached(config)
    call_at(transformer, 40, None, "cond", "uncond")
    with pytest.warns(UserWarning, match="its last step, which has to be computed"):
        call_at(transformer, 41, None, "cond", "uncond")
    for step in range(42, 50):
        call_at(transformer, step, None, "cond", "uncond")
    assert decisions(handle) == ["C" * 10]
    assert transformer.calls == [1] * 20
