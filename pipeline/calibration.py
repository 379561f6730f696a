"""Measuring the sensitivity profile of a registered model, with its sampling settings.

Knows which networks a pipeline has and how their profiles become one; the measuring itself is
`sencache.calibrate`. Knows nothing of files or command lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.models.call import sampling_arguments, takes_negative_prompt
from pipeline.models.load import networks_of
from pipeline.models.sampler import make_scheduler
from pipeline.models.spec import ResolvedModel
from pipeline.request import SampleRequest
from sencache import SensitivityProfile, calibrate


def measure_profile(
    model: ResolvedModel,
    pipe: Any,
    template: SampleRequest,
    prompts: Sequence[str],
    clips: int,
    progress: Callable[[int, int], None] | None = None,
) -> SensitivityProfile:
    """Measure how strongly a model's output answers to its input and to time.

    A pipeline with two networks (Wan 2.2) is sampled once for each. Each network owns a part of the
    noise range, so their curves join into one profile that serves both.

    Args:
        model: What the pipeline was loaded from; its revision goes into the profile.
        pipe: From `load_pipeline`.
        template: Sampling settings; its prompt and seed are not used.
        prompts: Captions, used in order and over again.
        clips: Clips to sample, with seeds 0, 1, 2, ...
        progress: Called after every step with the steps done and the steps in all, per network.

    Raises:
        ValueError: The family cannot be calibrated, or too few steps or prompts are given.
    """
    pipe.scheduler = make_scheduler(template.sampler, model.spec.family, pipe.scheduler.config)
    arguments = sampling_arguments(model.spec, template)
    if takes_negative_prompt(model.spec) and template.guidance_scale > 1.0:
        arguments["negative_prompt"] = template.negative_prompt
    profiles = [
        calibrate(
            pipe,
            prompts,
            model=model.spec.name,
            revision=model.revision,
            seeds=range(clips),
            call_kwargs=arguments,
            component=network,
            progress=progress,
        )
        for network in networks_of(pipe)
    ]
    return join_profiles(profiles)


def join_profiles(profiles: Sequence[SensitivityProfile]) -> SensitivityProfile:
    """Join the profiles of networks that follow one another down the noise range.

    Args:
        profiles: In the order in which the networks run, so that tau falls from one to the next.

    Raises:
        ValueError: Their ranges overlap.
    """
    first = profiles[0]
    cost = sum(profile.metadata.network_evaluations for profile in profiles)
    return SensitivityProfile(
        dataclasses.replace(first.metadata, network_evaluations=cost),
        {
            branch: tuple(point for profile in profiles for point in profile.branches[branch])
            for branch in first.branches
        },
    )


def profile_table(profile: SensitivityProfile) -> str:
    """A profile as text for people: one line per point, and what it cost."""
    facts = profile.metadata
    lines = [
        f"{facts.model} {facts.revision}: {facts.sampler} shift {facts.shift}, "
        f"{facts.num_inference_steps} steps, guidance {facts.guidance_scale}, {facts.dtype}",
        "branch     tau     a_x (spread)          a_t (spread)",
    ]
    lines += [
        f"{branch:<8} {point.tau:6.4f}  {point.a_x:9.4f} ({point.a_x_spread:8.4f})  "
        f"{point.a_t:9.4f} ({point.a_t_spread:8.4f})"
        for branch, points in profile.branches.items()
        for point in points
    ]
    lines.append(
        f"{facts.num_clips} clips, {facts.network_evaluations} network evaluations, "
        f"profile {profile.hash}"
    )
    return "\n".join(lines)
