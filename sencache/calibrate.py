"""Calibration: measuring a sensitivity profile on uncached sampling runs of a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import torch

from sencache.attachment import attach, detach
from sencache.families import Family, family_of
from sencache.measurement import (
    Branch,
    ProfileError,
    ProfileMetadata,
    SensitivityPoint,
    sampler_facts,
)
from sencache.profile import SensitivityProfile
from sencache.secants import CalibrationHook, Secant

HOOK_NAME = "sencache_calibration"


def calibrate(
    pipe: Any,
    prompts: Sequence[str],
    *,
    model: str,
    revision: str = "",
    seeds: Sequence[int] = range(8),
    call_kwargs: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    component: str = "transformer",
    family: Family | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SensitivityProfile:
    """Measure a model's sensitivities on full sampling runs of a pipeline.

    Costs three network evaluations per clip, step and branch, one at the last step. They are made
    while the pipeline samples, so that memory is needed for two steps rather than a trajectory.
    Eight diverse clips give curves close to those of thousands (the paper's ablation).

    Args:
        pipe: A diffusers video pipeline without a cache, on its device.
        prompts: Captions, used in order and over again if there are more seeds.
        model: Id of the model, to be stored in the profile and checked on use.
        revision: Revision of its weights.
        seeds: One clip is made per seed.
        call_kwargs: Arguments of the pipeline's call as in production: num_inference_steps,
            guidance_scale, size and so on; not the prompt, generator or output type.
        batch_size: Clips per pipeline call.
        component: Attribute of the pipeline that holds the transformer to measure, such as
            "transformer_2" for the low-noise expert of Wan 2.2.
        family: Description of a transformer class that :mod:`sencache.families` does not list.
        progress: Called after every step with the steps done and the steps in all.

    Returns:
        The profile, with means and spreads over the clips.

    Raises:
        ValueError: No prompts or seeds, prompts are one string, a cache is applied, the class is
            unknown, or the pipeline calls both branches of guidance without cache contexts.
        ProfileError: Fewer than three steps were sampled, or a value is not finite.
    """
    transformer: torch.nn.Module = getattr(pipe, component)
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one string, {prompts!r}; pass a list of captions")
    if not prompts or not seeds or batch_size < 1:
        raise ValueError(
            f"calibration got {len(prompts)} prompts, {len(seeds)} seeds and batch_size "
            f"{batch_size}; it needs at least one of each"
        )
    if getattr(transformer, "_cache_config", None) is not None:
        raise ValueError("a cache is applied to the transformer; calibrate without it")
    family = family or family_of(transformer)
    options, facts = dict(call_kwargs or {}), sampler_facts(pipe.scheduler)
    batches = [seeds[start : start + batch_size] for start in range(0, len(seeds), batch_size)]
    done = 0

    def count_step() -> None:
        nonlocal done
        done += 1
        if progress is not None:  # the pipeline has set the timesteps by now
            progress(done, len(batches) * len(pipe.scheduler.timesteps))

    hooks = []
    for index, batch in enumerate(batches):
        first = index * batch_size
        hook = CalibrationHook(family, facts["num_train_timesteps"], count_step)
        attach(transformer, hook, HOOK_NAME)
        try:
            pipe(
                prompt=[prompts[(first + i) % len(prompts)] for i in range(len(batch))],
                generator=[torch.Generator().manual_seed(seed) for seed in batch],
                output_type="latent",
                **options,
            )
        finally:
            detach(transformer, HOOK_NAME)
        hooks.append(hook)

    if not hooks[0].secants:
        raise ProfileError(
            f"the pipeline called its {component} at fewer than two steps; sample more steps, "
            "or name the component that it does call"
        )
    metadata = ProfileMetadata(
        model=model,
        revision=revision,
        family=family.name,
        num_inference_steps=len(pipe.scheduler.timesteps),
        guidance_scale=_argument(pipe, options, "guidance_scale"),
        height=_argument(pipe, options, "height"),
        width=_argument(pipe, options, "width"),
        num_frames=_argument(pipe, options, "num_frames"),
        dtype=hooks[0].dtype,
        num_clips=len(seeds),
        network_evaluations=sum(hook.evaluations for hook in hooks),
        versions={"torch": torch.__version__, "diffusers": diffusers.__version__},
        **facts,
    )
    branches: dict[Branch, tuple[SensitivityPoint, ...]] = {
        branch: _points([hook.secants[branch] for hook in hooks]) for branch in hooks[0].secants
    }
    return SensitivityProfile(metadata, branches)


def _points(batches: list[list[Secant]]) -> tuple[SensitivityPoint, ...]:
    """Mean and spread over all clips, one point per step."""
    points = []
    for secants in zip(*batches, strict=True):
        a_x = torch.cat([secant.a_x for secant in secants]).double().cpu()
        a_t = torch.cat([secant.a_t for secant in secants]).double().cpu()
        tau, next_tau = secants[0].tau[0].item(), secants[0].next_tau[0].item()
        if tau == next_tau:
            continue  # timesteps rounded to whole numbers can coincide: there is no slope
        if not (a_x.isfinite().all() and a_t.isfinite().all()):
            raise ProfileError(
                f"sensitivities at tau {tau:.4g} are not finite: the network gave NaN or "
                "infinity there, or the sampler did not move the latents"
            )
        points.append(
            SensitivityPoint(
                tau=_rounded(tau),
                a_x=_rounded(a_x.mean().item()),
                a_x_spread=_rounded(a_x.std(correction=0).item()),
                a_t=_rounded(a_t.mean().item()),
                a_t_spread=_rounded(a_t.std(correction=0).item()),
            )
        )
    return tuple(points)


def _rounded(value: float) -> float:
    """Six significant digits: more is noise, and fewer digits read better in a file."""
    return float(f"{value:.6g}")


def _argument(pipe: Any, options: Mapping[str, Any], name: str) -> Any:
    """Value of an argument of the pipeline's call: as given, else its default, else None."""
    parameter = inspect.signature(pipe.__call__).parameters.get(name)
    default = (
        None if parameter is None or parameter.default is parameter.empty else parameter.default
    )
    return options.get(name, default)
