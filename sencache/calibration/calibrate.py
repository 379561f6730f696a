"""Calibration: measuring a sensitivity profile on uncached sampling runs of a pipeline."""

from __future__ import annotations

import functools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import diffusers
import torch
from diffusers.utils.logging import tqdm

from sencache.calibration.averaging import (
    check_finite,
    mean_drift,
    mean_points,
    warn_of_rounding,
)
from sencache.calibration.clips import ClipLatents, NoisedClips, encode_clips
from sencache.calibration.gain import measure_gain
from sencache.calibration.journal import CalibrationProgress, Journal
from sencache.calibration.outputs import OutputRecorder
from sencache.calibration.provenance import (
    MeasuredNetwork,
    fingerprint,
    measured_networks,
    run_facts,
)
from sencache.calibration.secants import CalibrationHook, SecantBatch, SecantRecorder
from sencache.families.base import Family
from sencache.hook.attachment import attach, detach
from sencache.hook.sampler_position import SamplerPosition
from sencache.profiles.metadata import ProfileError, ProfileMetadata, sampler_facts
from sencache.profiles.profile import ProfileWarning, SensitivityProfile

HOOK_NAME = "sencache_calibration"
DEFAULT_CLIPS = 8


def calibrate(
    pipe: Any,
    prompts: Sequence[str],
    *,
    model: str | os.PathLike[str] | None = None,
    revision: str = "",
    seeds: Sequence[int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    components: Sequence[str] | None = None,
    family: Family | None = None,
    clips: Sequence[torch.Tensor] | ClipLatents | None = None,
    gain_clips: int = 0,
    journal: Journal | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> SensitivityProfile:
    """Measure a model's sensitivities on full sampling runs of a pipeline.

    Costs three network evaluations per clip, step and branch, one at the last step of a network.
    They run while the pipeline samples, so they need memory for two steps rather than for a whole
    trajectory. Eight diverse clips give curves close to those of thousands (the paper's ablation).

    Args:
        pipe: A diffusers video pipeline without a cache, on its device.
        prompts: Captions, in order; repeated if there are more seeds.
        model: Id of the model, stored in the profile and checked on use; None takes the name or
            path that the pipeline was loaded from.
        revision: Revision of its weights.
        seeds: One per clip; by default 0, 1, 2, ... for eight clips, or for the given clips.
        call_kwargs: Arguments of the pipeline's call as in production: num_inference_steps,
            guidance_scale, size and so on; not the prompt, generator or output type.
        batch_size: Clips per pipeline call.
        components: Attributes of the pipeline that hold the networks to measure. By default
            transformer and, where there is one, transformer_2 (the low-noise expert of Wan 2.2):
            each covers a part of the noise range, and one profile holds the points of both.
        family: Description of a transformer class that :mod:`sencache.families` does not list.
        clips: Videos to measure on instead of the model's own samples: float, [frames, 3, height,
            width], 0..1, in the size of the run; or encoded clips. The pipeline runs as usual, but
            its networks see these clips with the noise of each step.
        gain_clips: Number of clips, from the first, on which to measure also how errors of single
            steps grow until the end of a run, which improves cache schedules
            (:mod:`sencache.calibration.gain`). Costs 13 runs of each; 4 clips are enough. The
            journal does not keep it.
        journal: Keeps finished clips, so that an interrupted calibration can continue.
        progress: True for a bar on stderr, or a function that is called after every step with the
            number of steps done and the total.

    Returns:
        The profile, with means and spreads over the clips.

    Raises:
        ValueError: No prompts or seeds, prompts are one string, a cache is applied, the class is
            unknown, `call_kwargs` has an argument that calibration sets, clips do not fit the
            run, or the pipeline calls both branches of guidance without cache contexts.
        ProfileError: Fewer than three steps were sampled, a value is not finite, or the journal
            belongs to another calibration.

    Warns:
        ProfileWarning: At some steps the output changes by less than the network's dtype resolves;
            or the gain cannot be measured because the run is too short or the sampler random.
    """
    networks = measured_networks(pipe, components, family)
    if clips is not None and not isinstance(clips, ClipLatents):
        clips = encode_clips(pipe, clips, networks[0].family)
    seeds = range(DEFAULT_CLIPS if clips is None else len(clips)) if seeds is None else seeds
    if not isinstance(call_kwargs, (Mapping, type(None))):
        raise ValueError(f"call_kwargs is {call_kwargs!r:.80}; it must be a dict or None")
    options = dict(call_kwargs or {})
    _check_options(options)
    _check(prompts, seeds, batch_size, clips)
    if not 0 <= gain_clips <= len(seeds):
        raise ValueError(f"gain_clips is {gain_clips}; it must be 0 to {len(seeds)}, the clips")
    name = None if model is None else os.fspath(model)
    facts = run_facts(pipe, networks, options, name, revision, clips)
    finished = CalibrationProgress(
        journal, fingerprint(facts, networks, pipe, options, prompts, seeds, batch_size, clips)
    )
    starts, batches = range(0, len(seeds), batch_size), []
    with _reporting(progress) as report:
        for index, start in enumerate(starts):
            batch = finished.get(start)
            if batch is None:
                here = slice(start, start + batch_size)
                captions = [prompts[i % len(prompts)] for i in range(len(seeds))[here]]
                latents = None if clips is None else clips.values[here]
                on_step = functools.partial(_report_step, report, index, len(starts))
                scale = options.get("true_cfg_scale", facts["guidance_scale"])
                batch = _measure(
                    pipe, networks, captions, seeds[here], latents, options, scale, on_step
                )
                finished.add(start, batch)
            batches.append(batch)
        drift = mean_drift(batches)
        if drift is not None and gain_clips:
            captions = [prompts[i % len(prompts)] for i in range(gain_clips)]
            run = functools.partial(
                _sample_all, pipe, captions, seeds[:gain_clips], options, batch_size
            )
            modules = {each.component: (each.module, each.family) for each in networks}
            try:
                drift = replace(drift, gain=measure_gain(pipe, modules, drift, run, report))
            except ValueError as error:  # the rest of the profile is valid without it
                warnings.warn(f"gain is left at 1: {error}", ProfileWarning, stacklevel=2)
    warn_of_rounding(batches)
    metadata = ProfileMetadata(
        **facts,
        num_inference_steps=batches[0].steps,
        dtype=batches[0].dtype,
        num_clips=len(seeds),
        network_evaluations=sum(batch.evaluations for batch in batches),
        versions={"torch": torch.__version__, "diffusers": diffusers.__version__},
    )
    return SensitivityProfile(metadata, mean_points(batches), drift)


GIVEN_BY_CALIBRATION = {"prompt": "prompts", "generator": "seeds", "output_type": None}
"""Arguments of the pipeline's call that calibration gives, and its own argument for each."""


def _check_options(options: Mapping[str, Any]) -> None:
    for name in GIVEN_BY_CALIBRATION.keys() & options.keys():
        instead = GIVEN_BY_CALIBRATION[name]
        hint = f"pass {instead} to calibrate instead" if instead else "leave it out"
        raise ValueError(f"call_kwargs has {name!r}, which calibration sets itself; {hint}")


def _check(
    prompts: Sequence[str], seeds: Sequence[int], batch_size: int, clips: ClipLatents | None
) -> None:
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one string, {prompts!r}; pass a list of captions")
    if not isinstance(prompts, Sequence):
        raise ValueError(f"prompts is of type {type(prompts).__name__}; pass a list of captions")
    if not isinstance(seeds, Sequence):
        raise ValueError(f"seeds is {seeds!r:.80}; pass one seed per clip, such as range(8)")
    low = Counter(seed % 2**32 for seed in set(seeds))
    if alike := [seed for seed in seeds if low[seed % 2**32] > 1]:
        raise ValueError(
            f"seeds {alike[0]} and {alike[1]} give the same noise: torch draws on a CPU from the "
            "last 32 bits; pass seeds below 2**32"
        )
    if not prompts or not seeds or batch_size < 1:
        raise ValueError(
            f"calibration got {len(prompts)} prompts, {len(seeds)} seeds and batch_size "
            f"{batch_size}; it needs at least one of each"
        )
    if clips is not None and len(clips) != len(seeds):
        raise ValueError(f"there are {len(clips)} clips but {len(seeds)} seeds; give one per clip")


def _measure(
    pipe: Any,
    networks: Sequence[MeasuredNetwork],
    captions: Sequence[str],
    seeds: Sequence[int],
    latents: torch.Tensor | None,
    options: Mapping[str, Any],
    guidance_scale: float | None,
    on_step: Callable[[int, int], None],
) -> SecantBatch:
    """One pipeline call, for one clip per seed."""
    recorder = SecantRecorder(
        sampler_facts(pipe.scheduler)["num_train_timesteps"],
        # The pipeline has set its timesteps by the first step.
        lambda done: on_step(done, len(pipe.scheduler.timesteps)),
        None if latents is None else NoisedClips(pipe, latents, seeds),
        # Given clips do not follow the sampler, so their outputs do not drift as its own do.
        OutputRecorder() if latents is None else None,
    )
    scales = {"transformer_2": options.get("guidance_scale_2", guidance_scale)}
    hooks = {
        network.component: CalibrationHook(
            network.family,
            recorder,
            scales.get(network.component, guidance_scale),
            SamplerPosition(lambda: pipe.scheduler),
        )
        for network in networks
    }
    with ExitStack() as attached:
        for network in networks:
            attach(network.module, hooks[network.component], HOOK_NAME)
            attached.callback(detach, network.module, HOOK_NAME)
        sample_latents(pipe, captions, seeds, options)
    for component, hook in hooks.items():
        if not hook.measured:
            raise ProfileError(
                f"the pipeline called its {component} at fewer than two steps of falling time; "
                "sample more steps, or name the components that it does call"
            )
    batch = recorder.result(len(pipe.scheduler.timesteps))
    check_finite(batch)
    return batch


def sample_latents(
    pipe: Any, captions: Sequence[str], seeds: Sequence[int], options: Mapping[str, Any]
) -> torch.Tensor:
    """Final latents of one pipeline call, one clip per seed."""
    result = pipe(
        prompt=list(captions),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
        **options,
    )
    latents: torch.Tensor = result if isinstance(result, torch.Tensor) else result[0]
    return latents


def _sample_all(
    pipe: Any,
    captions: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    batch_size: int,
) -> torch.Tensor:
    """Final latents of several pipeline calls, one clip per seed."""
    starts = range(0, len(seeds), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    return torch.cat([sample_latents(pipe, captions[part], seeds[part], options) for part in parts])


def _report_step(
    report: Callable[[int, int], None], index: int, batches: int, done: int, steps: int
) -> None:
    """Report a step of one of several batches of equal length."""
    report(index * steps + done, batches * steps)


@contextmanager
def _reporting(
    progress: bool | Callable[[int, int], None],
) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the number of steps done and the total."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield lambda done, total: None
        return
    shown = 0
    with tqdm(desc="calibrating", unit="step") as bar:  # silent where diffusers' bars are

        def show(done: int, total: int) -> None:
            nonlocal shown
            bar.total = total
            bar.update(done - shown)
            shown = done

        yield show
