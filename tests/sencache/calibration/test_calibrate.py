"""Sensitivities are those of the paper's formula, and measuring them leaves no trace."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from sencache import (
    ProfileError,
    ProfileWarning,
    SenCacheConfig,
    SensitivityProfile,
    apply_sencache,
    calibrate,
    remove_sencache,
)
from tests.sencache.calibration.measuring import measure
from tests.sencache.support.toys import (
    LINEAR,
    LinearPipe,
    LinearTransformer,
    embeddings,
    euler,
    sample,
    tiny_pipe,
    unipc,
)

SCHEDULERS = pytest.mark.parametrize("scheduler", [euler, unipc])


@SCHEDULERS
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_known_jacobian_is_found(scheduler: Callable[[], Any], batch_size: int) -> None:
    pipe = LinearPipe(LinearTransformer(gain_x=-0.7, gain_t=1.5), scheduler())
    profile = measure(pipe, batch_size=batch_size)
    assert set(profile.branches) == {"cond", "uncond"}
    for points in profile.branches.values():
        assert len(points) == 9  # the last of 10 steps has no next one
        for point in points:
            assert point.a_x == pytest.approx(0.7, rel=1e-3)
            assert point.a_t == pytest.approx(1.5, rel=1e-3)
            assert point.a_x_spread == pytest.approx(0, abs=1e-3)


def test_metadata_tells_what_was_run_and_what_it_cost() -> None:
    transformer = LinearTransformer(1.0, 1.0)
    pipe = LinearPipe(transformer, unipc())
    profile = measure(
        pipe,
        revision="v2",
        batch_size=2,
        call_kwargs={"num_inference_steps": 6, "guidance_scale": 3.0},
    )
    facts = profile.metadata
    assert (facts.model, facts.revision, facts.family) == ("toy", "v2", "linear")
    assert (facts.sampler, facts.shift) == ("UniPCMultistepScheduler", 3.0)
    assert (facts.num_train_timesteps, facts.num_inference_steps) == (1000, 6)
    assert (facts.guidance_scale, facts.height, facts.dtype) == (3.0, None, "float32")
    assert facts.num_clips == 3
    assert facts.network_evaluations == 3 * 2 * (6 + 2 * 5) == sum(transformer.calls)
    assert set(facts.versions) == {"torch", "diffusers"}


def test_the_bar_is_shown_unless_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    diffusers.utils.logging.enable_progress_bar()  # loading a model has turned bars off, perhaps
    pipe = LinearPipe(LinearTransformer(1.0, 1.0), euler())
    measure(pipe, progress=False)
    assert capsys.readouterr().err == ""
    measure(pipe, progress=True)
    assert "calibrating: 100%" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "steps", "warned"),
    [(torch.float32, 60, False), (torch.bfloat16, 60, True), (torch.bfloat16, 3, False)],
)
def test_rounding_noise_is_told(
    dtype: torch.dtype, steps: int, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny_pipe()
    pipe.transformer.to(dtype)
    text = embeddings([5]).to(dtype)
    monkeypatch.setattr(pipe, "encode_prompt", lambda **_: (text, text))
    options = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": steps}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        profile = measure(pipe, seeds=[3], call_kwargs=options)
    told = [str(w.message) for w in caught if issubclass(w.category, ProfileWarning)]
    assert bool(told) is warned
    assert all("between tau" in text and "bfloat16 resolves" in text for text in told)
    assert profile.metadata.dtype == str(dtype).removeprefix("torch.")


def test_progress_counts_steps() -> None:
    pipe = LinearPipe(LinearTransformer(1.0, 1.0), euler())
    seen: list[tuple[int, int]] = []
    measure(pipe, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 30) for step in range(1, 31)]


@SCHEDULERS
def test_wan_secants_equal_those_computed_from_the_recorded_run(
    scheduler: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record latents through the pipeline's own callback and redo the paper's formula."""
    pipe = tiny_pipe(scheduler())
    text, empty = embeddings([5]), embeddings([99])
    monkeypatch.setattr(pipe, "encode_prompt", lambda **_: (text, empty))
    options: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 5}
    options |= {"num_inference_steps": 6, "guidance_scale": 4.0}
    profile = measure(pipe, seeds=[3], call_kwargs=options)

    start = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(11))
    recorded = [start]

    def record(_pipe: Any, _i: int, _t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        recorded.append(kwargs["latents"])
        return kwargs

    call = options | {"latents": start, "prompt_embeds": text, "negative_prompt_embeds": empty}
    sample(pipe, [3], callback_on_step_end=record, **call)
    from_latents = measure(pipe, seeds=[3], call_kwargs=options | {"latents": start})

    @torch.no_grad()
    def f(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return pipe.transformer(x, t[None], condition, return_dict=False)[0]

    timesteps = pipe.scheduler.timesteps
    for branch, condition in (("cond", text), ("uncond", empty)):
        points = from_latents.branches[branch]
        for i, point in enumerate(points):
            x, x_next, t, t_next = *recorded[i : i + 2], *timesteps[i : i + 2]
            base = f(x, t, condition)
            change_x = (f(x_next, t, condition) - base).square().mean().sqrt()
            change_t = (f(x, t_next, condition) - base).square().mean().sqrt()
            moved = (x_next - x).square().mean().sqrt()
            assert point.tau == pytest.approx(float(t) / 1000, rel=1e-5)
            assert point.a_x == pytest.approx((change_x / moved).item(), rel=1e-3)
            assert point.a_t == pytest.approx(
                (change_t / ((t - t_next).abs() / 1000)).item(), rel=1e-3
            )
    assert profile.metadata.height == 32
    assert profile.hash != from_latents.hash  # other clips, other values


def test_measuring_leaves_the_pipeline_as_it_was() -> None:
    pipe = LinearPipe(LinearTransformer(0.5, 1.0), euler())
    call = {"prompt": ["a cat"], "generator": [torch.Generator().manual_seed(0)]}
    wanted = pipe(**call)
    seen: list[torch.Tensor] = []
    original = LinearPipe.__call__

    class Watched(LinearPipe):
        def __call__(self, **kwargs: Any) -> torch.Tensor:
            seen.append(original(self, **kwargs))
            return seen[-1]

    calibrate(
        Watched(pipe.transformer, pipe.scheduler), ["a cat"], model="t", seeds=[0], family=LINEAR
    )
    assert torch.equal(seen[0], wanted)
    assert vars(pipe.transformer)["_diffusers_hook"].hooks == {}
    assert "forward" not in vars(pipe.transformer)


def test_guidance_without_contexts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secants would be taken from one branch to the other."""
    pipe = LinearPipe(LinearTransformer(0.5, 1.0), euler())

    def nothing(*_args: Any, **_options: Any) -> Any:
        return contextlib.nullcontext()

    monkeypatch.setattr(pipe.transformer, "cache_context", nothing)
    with pytest.raises(ValueError, match=r'cache_context\("uncond"\)'):
        measure(pipe)


def test_a_run_that_raises_leaves_no_hook() -> None:
    transformer = LinearTransformer(1.0, 1.0)
    pipe = LinearPipe(transformer, euler())
    with pytest.raises(TypeError, match="colour"):
        measure(pipe, call_kwargs={"colour": "red"})
    assert transformer._diffusers_hook.hooks == {}


def test_errors_tell_what_is_missing() -> None:
    pipe = LinearPipe(LinearTransformer(1.0, 1.0), euler())
    with pytest.raises(ValueError, match="2 prompts, 0 seeds"):
        measure(pipe, seeds=[])
    with pytest.raises(ValueError, match="batch_size 0"):
        measure(pipe, batch_size=0)
    with pytest.raises(ProfileError, match="at least 2"):
        measure(pipe, call_kwargs={"num_inference_steps": 2})
    with pytest.raises(ValueError, match="prompts is one string, 'a cat'"):
        calibrate(pipe, "a cat", model="t", family=LINEAR)
    pipe.transformer_2 = LinearTransformer(1.0, 1.0)  # type: ignore[attr-defined]
    with pytest.raises(ProfileError, match="its transformer_2 at fewer than two steps"):
        measure(pipe, components=["transformer_2"])
    with pytest.raises(ProfileError, match="its transformer_2 at fewer than two steps"):
        measure(pipe)  # found without being named
    del pipe.transformer_2  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no component 'transformer_2'"):
        measure(pipe, components=["transformer_2"])
    with pytest.raises(ValueError, match="does not know the transformer class"):
        calibrate(pipe, ["a"], model="t")
    apply_sencache(pipe.transformer, SenCacheConfig(policy="none"), family=LINEAR)
    with pytest.raises(ValueError, match="calibrate without it"):
        measure(pipe)
    remove_sencache(pipe.transformer)
    pipe.transformer.gain_x = float("nan")
    with pytest.raises(ProfileError, match=r"tau 1 are not finite"):
        measure(pipe)


def test_the_profile_it_makes_can_be_applied() -> None:
    pipe = LinearPipe(LinearTransformer(0.5, 1.0), euler())
    profile = measure(pipe)
    again = SensitivityProfile.from_json(profile.to_json())
    config = SenCacheConfig(epsilon=0.5, strict_fraction=0.0)
    handle = apply_sencache(pipe.transformer, config, again, family=LINEAR)
    pipe(prompt=["a cat"], generator=[torch.Generator().manual_seed(0)])
    (stats,) = handle.stats()
    assert stats.reused > 0
    assert stats.predicted_error is not None
    assert stats.actual_error is not None
    # A triangle inequality for a linear network, so the prediction is never too small.
    assert stats.actual_error <= stats.predicted_error * 1.001


def test_seeds_that_give_one_noise_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds 5 and 4294967301 give the same noise"):
        measure(LinearPipe(LinearTransformer(1.0, 1.0), euler()), seeds=[5, 1, 2**32 + 5])
