"""Measuring a sensitivity profile on uncached sampling runs.

The secants of the paper (arXiv 2602.24208), along the sampler's own direction:

    a_x(t_i) = rms(f(x_{i+1}, t_i) - f(x_i, t_i)) / rms(x_{i+1} - x_i)
    a_t(t_i) = rms(f(x_i, t_{i+1}) - f(x_i, t_i)) / |tau_{i+1} - tau_i|

x_i, t_i and f(x_i, t_i) are those of a genuine run of the pipeline, seen by a hook on the
transformer. A multistep sampler (UniPC) stepped on its own from unrelated noise would blend
latents of different clips and give differences of the size of the noise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager

from sencache.families import Call, CallReader, Family, family_of
from sencache.policy import row_rms
from sencache.profile import (
    Branch,
    ProfileError,
    ProfileMetadata,
    SensitivityPoint,
    SensitivityProfile,
    dtype_name,
    sampler_facts,
)

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
        ValueError: No prompts or seeds, a cache is applied, or the class is unknown.
        ProfileError: Fewer than three steps were sampled, or a value is not finite.
    """
    transformer: torch.nn.Module = getattr(pipe, component)
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
        registry = HookRegistry.check_if_exists_or_initialize(transformer)
        registry.register_hook(hook, HOOK_NAME)
        registry.invalidate_child_registries_cache()
        try:
            pipe(
                prompt=[prompts[(first + i) % len(prompts)] for i in range(len(batch))],
                generator=[torch.Generator().manual_seed(seed) for seed in batch],
                output_type="latent",
                **options,
            )
        finally:
            registry.remove_hook(HOOK_NAME, recurse=False)
            registry.invalidate_child_registries_cache()
        hooks.append(hook)

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


@dataclass(frozen=True)
class Secant:
    """What one step of a batch of clips measured; tensors of shape [clips]."""

    tau: torch.Tensor
    next_tau: torch.Tensor
    a_x: torch.Tensor
    a_t: torch.Tensor


class CalibrationHook(ModelHook):
    """Watches one pipeline call and evaluates the network twice more per step and branch.

    At step i+1 it knows x_i, t_i, f(x_i, t_i) of the step before and x_{i+1}, t_{i+1} of this
    one: all that the two secants at t_i need. What the pipeline gets is left as it is.
    """

    _is_stateful = True

    def __init__(
        self, family: Family, num_train_timesteps: int, on_step: Callable[[], None]
    ) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)  # receives the cache context
        self.secants: dict[Branch, list[Secant]] = {}
        self.evaluations = 0  # rows that the network evaluated
        self.dtype = ""
        self._family, self._num_train_timesteps = family, num_train_timesteps
        self._on_step = on_step
        self._read: CallReader | None = None
        self._before: dict[str | None, tuple[Call, torch.Tensor]] = {}

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The network's own output; the measuring happens beside it."""
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        call = self._read(args, kwargs)
        context = self.state_manager._context
        name = context.name if context else None
        branches = self._family.branches(name)
        if not self._before or name == next(iter(self._before)):
            self._on_step()  # the first context to be called marks the steps
        output = self.fn_ref.original_forward(*args, **kwargs)
        self.evaluations += call.rows
        self.dtype = dtype_name(call.latents.dtype)
        if name in self._before:
            self._measure(*self._before[name], call, branches)
        # Copies: the pipeline may write into its latents and into the output.
        latents = call.arguments[self._family.latents].detach().clone()
        kept = self._read((), {**call.arguments, self._family.latents: latents})
        self._before[name] = (kept, output[0].detach().clone())
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the last step; diffusers calls this at the end of a pipeline call."""
        self._before = {}
        self.state_manager.reset()
        return module

    def _measure(
        self, before: Call, output: torch.Tensor, now: Call, branches: tuple[Branch, ...]
    ) -> None:
        family = self._family
        tau, next_tau = (call.tau(self._num_train_timesteps) for call in (before, now))
        moved_x = self._evaluate(before, family.latents, now)
        moved_t = self._evaluate(before, family.timestep, now)
        step = row_rms(now.latents.float() - before.latents.float())
        a_x = row_rms(moved_x.float() - output.float()) / step
        a_t = row_rms(moved_t.float() - output.float()) / (next_tau - tau).abs()
        blocks = (values.chunk(len(branches)) for values in (tau, next_tau, a_x, a_t))
        for branch, *values in zip(branches, *blocks, strict=True):
            self.secants.setdefault(branch, []).append(Secant(*values))

    def _evaluate(self, before: Call, argument: str, now: Call) -> torch.Tensor:
        """The output of the step before, had one of its arguments been this step's."""
        moved = {**before.arguments, argument: now.arguments[argument]}
        self.evaluations += before.rows
        output: torch.Tensor = self.fn_ref.original_forward(**moved)[0]
        return output.detach()


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
