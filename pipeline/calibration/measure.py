"""Measures the sensitivity profile of a registered model under its sampling settings.

Passes the settings of the registry to `sencache.calibrate`, which does the measuring. Knows nothing
of command lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.call import sampling_arguments
from pipeline.models.samplers import make_scheduler
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from pipeline.wording import counted
from sencache import Journal, SensitivityProfile, calibrate, fit_plans, networks_of


@dataclass(frozen=True)
class StoredJournal:
    """The finished clips of a calibration, kept as one file of a storage.

    Attributes:
        storage: The storage that holds the file.
        key: Name of the file there.
    """

    storage: Storage
    key: str

    def __str__(self) -> str:
        return f"{self.storage.uri}/{self.key}"

    def load(self) -> str:
        """Return the text that was saved last, "" if there is none.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self.storage.exists(self.key):
            return ""
        return self.storage.read_bytes(self.key).decode(errors="replace")

    def save(self, text: str) -> None:
        """Replace the text.

        Raises:
            StorageError: The file cannot be written.
        """
        self.storage.put_bytes(self.key, text.encode())

    def delete(self) -> None:
        """Delete the file.

        Raises:
            StorageError: The file cannot be deleted.
        """
        self.storage.delete(self.key)


def measure_profile(
    model: ResolvedModel,
    pipe: Any,
    template: SampleRequest,
    prompts: Sequence[str],
    clips: int,
    *,
    first_seed: int = 0,
    batch_size: int = 1,
    videos: Sequence[torch.Tensor] | None = None,
    gain_clips: int = 0,
    journal: Journal | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> SensitivityProfile:
    """Measure how strongly a model's output depends on its input and on time.

    A pipeline with two networks (Wan 2.2) is sampled once for both: each covers a part of the noise
    range, and the profile holds for both.

    Args:
        model: The model that the pipeline was loaded from; the profile records its revision.
        pipe: The result of `load_pipeline`.
        template: Sampling settings; its prompt and seed are not used.
        prompts: Captions, used in order and repeated if there are fewer than clips.
        clips: Number of clips to sample.
        first_seed: Seed of the first clip; the others count up from it.
        batch_size: Clips per call of the pipeline.
        videos: Given clips to measure on, one per clip: [num_frames, 3, height, width] in 0..1, in
            the template's size.
        gain_clips: Clips on which the growth of errors is also measured; see `sencache.calibrate`.
        journal: Keeps finished clips, so that an interrupted calibration can continue.
        progress: See `sencache.calibrate`.

    Raises:
        ValueError: The family cannot be calibrated, there are too few steps or prompts, or the
            journal belongs to another calibration.
    """
    arguments = _prepared(model, pipe, template)
    return calibrate(
        pipe,
        prompts,
        model=model.spec.identity_name,
        revision=model.revision,
        seeds=range(first_seed, first_seed + clips),
        call_kwargs=arguments,
        batch_size=batch_size,
        components=list(networks_of(pipe)),
        clips=videos,
        gain_clips=gain_clips,
        journal=journal,
        progress=progress,
    )


def fitted_profile(
    model: ResolvedModel,
    pipe: Any,
    template: SampleRequest,
    profile: SensitivityProfile,
    prompts: Sequence[str],
    computed: Sequence[int],
    *,
    first_seed: int = 0,
    batch_size: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SensitivityProfile:
    """A profile with fitted plans (:func:`sencache.fit_plans`) for a model under its settings.

    Args:
        model: The model that the pipeline was loaded from.
        pipe: The result of `load_pipeline`.
        template: Sampling settings; its prompt and seed are not used.
        profile: Of the model.
        prompts: Captions, one per clip.
        computed: Numbers of computed steps to fit a plan for.
        first_seed: Seed of the first clip; the others count up from it.
        batch_size: Clips per call of the pipeline.
        progress: Called with the runs of all clips done, and their number.

    Raises:
        ValueError: No plan can be fitted for the pipeline, or it is cached.
    """
    return fit_plans(
        pipe,
        profile,
        prompts,
        [count / template.num_inference_steps for count in computed],
        seeds=range(first_seed, first_seed + len(prompts)),
        call_kwargs=_prepared(model, pipe, template),
        batch_size=batch_size,
        progress=progress,
    )


def _prepared(model: ResolvedModel, pipe: Any, template: SampleRequest) -> dict[str, Any]:
    """Give a pipeline its sampler; returns the arguments of its calls without prompts."""
    pipe.scheduler = make_scheduler(
        template.sampler, model.spec.family, pipe.scheduler.config, template.sigmas
    )
    arguments = sampling_arguments(model.spec, template)
    if not model.spec.pipeline.distilled_guidance and template.guidance_scale > 1.0:
        arguments["negative_prompt"] = template.negative_prompt
    return arguments


def profile_table(profile: SensitivityProfile) -> str:
    """Return a profile as text: one line per point, and the cost of its measurement."""
    facts = profile.metadata
    lines = [
        f"{facts.model} {facts.revision}: {facts.sampler} shift {facts.shift}, "
        f"{counted(facts.num_inference_steps, 'step')}, guidance {facts.guidance_scale}, "
        f"{facts.dtype}",
        "branch     tau     a_x (spread)          a_t (spread)",
    ]
    lines += [
        f"{branch:<8} {point.tau:6.4f}  {point.a_x:9.4f} ({point.a_x_spread:8.4f})  "
        f"{point.a_t:9.4f} ({point.a_t_spread:8.4f})"
        for branch, points in profile.branches.items()
        for point in points
    ]
    lines.append(
        f"{counted(facts.num_clips, 'given clip' if facts.inputs == 'clips' else 'sampled clip')}, "
        f"{facts.network_evaluations} network evaluations, profile {profile.hash}"
    )
    return "\n".join(lines)
