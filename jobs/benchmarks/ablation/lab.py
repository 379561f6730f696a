"""What the studies share: a model, clips to measure, clips to tune on, and a profile.

Tuning and calibration use calibration clips only; no study is measured on those.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from jobs.benchmarks.ablation.runs import ClipSet, Variant, make_clip_set
from jobs.benchmarks.profiles.bench import Bench, load_bench, with_changes
from jobs.benchmarks.quality.profiles import profile_for
from jobs.benchmarks.quality.progress_line import show_progress
from jobs.benchmarks.quality.splits import (
    CALIBRATION,
    DEV,
    ClipSpec,
    captions_of,
    split_clips,
)
from pipeline.calibration.measure import measure_profile
from pipeline.errors import UserError
from pipeline.models.samplers import EULER
from pipeline.models.spec import ModelSpec
from pipeline.requests.sample_request import SampleRequest
from sencache import SensitivityProfile


@dataclass(frozen=True)
class StudyGrid:
    """The parameter values that the studies measure.

    Attributes:
        max_reuses: Values of n, each at all `fixed_epsilons`.
        fixed_epsilons: Values of epsilon in the study of n.
        epsilons: Values of epsilon, at n = 3.
        equal_epsilons: Values of epsilon at which profiles are compared, at n = 3.
    """

    max_reuses: tuple[int, ...] = (1, 2, 3, 4, 7)
    fixed_epsilons: tuple[float, ...] = (0.05, 0.2)
    epsilons: tuple[float, ...] = (0.04, 0.06, 0.07, 0.13, 0.2, 0.4)
    equal_epsilons: tuple[float, ...] = (0.1, 0.2)


FULL = StudyGrid()
QUICK = StudyGrid((1, 3, 7), (0.2,), (0.06, 0.13, 0.4), (0.2,))


@dataclass(frozen=True)
class Study:
    """The results of one study.

    Attributes:
        title: Title of its table.
        rows: Summaries of its variants (see `runs.summaries`).
        curves: Differences between the curves of two profiles, by their names, if any are compared.
    """

    title: str
    rows: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Lab:
    """What the studies share.

    Attributes:
        bench: The model, under the sampler that is measured.
        clips: Clips to measure.
        measured: The same clips, ready to be made.
        tuning: Calibration clips to tune on.
        captions: Captions of calibrations.
        profile: The model's own profile.
        profile_clips: Number of clips of a native profile.
        grid: The parameter values to measure.
        console: Where progress is shown.
    """

    bench: Bench
    clips: Sequence[ClipSpec]
    measured: ClipSet
    tuning: ClipSet
    captions: Sequence[str]
    profile: SensitivityProfile
    profile_clips: int
    grid: StudyGrid
    console: Console

    @property
    def setting(self) -> str:
        """The conditions of the numbers, in one line."""
        own = self.bench.template
        return (
            f"{self.bench.model.spec.name} {own.width}x{own.height}x{own.num_frames}, "
            f"{own.sampler}, {own.num_inference_steps} steps, guidance {own.guidance_scale:g}, "
            f"{counted(len(self.clips))}"
        )

    def measure(
        self, title: str, variants: Sequence[Variant], clip_set: ClipSet | None = None
    ) -> Study:
        """Run variants on the clips to measure, or on another set of clips."""
        with show_progress(self.console, title) as watch:
            return Study(title, (clip_set or self.measured).measure(variants, watch.show))

    def calibrate(
        self,
        clips: int,
        first_seed: int,
        name: str,
        changes: Mapping[str, Any] = MappingProxyType({}),
    ) -> SensitivityProfile:
        """Measure a profile.

        Args:
            clips: Number of clips to measure on.
            first_seed: Seed of the first of these clips.
            name: Name of the setting, shown with the progress.
            changes: Changes of the lab's settings (see `with_changes`).
        """
        bench = self.bench
        with show_progress(self.console, f"calibration on {counted(clips)}, {name}") as watch:
            return measure_profile(
                bench.model,
                bench.pipe,
                with_changes(bench.template, changes),
                self.captions,
                clips,
                first_seed=first_seed,
                batch_size=bench.model.spec.batch_rows,
                progress=watch.show,
            )


def counted(clips: int) -> str:
    """Return a number of clips as text."""
    return f"{clips} clip{'' if clips == 1 else 's'}"


def load_lab(options: argparse.Namespace, console: Console) -> Lab:
    """Load the model and choose the clips to measure and the disjoint clips to tune on.

    Raises:
        UserError: Model or prompts cannot be used.
    """
    clips = split_clips(captions_of(options.model, options.prompts, DEV), DEV, options.clips)
    captions = captions_of(options.model, options.prompts, CALIBRATION)
    tuned = split_clips(captions, CALIBRATION, min(options.tuning_clips, len(captions)))
    loaded = load_bench(options.model, options.model_path, options.device)
    bench = dataclasses.replace(loaded, template=_under_euler(loaded, options.steps))
    with show_progress(console, "sensitivity profile") as watch:
        profile = profile_for(
            bench,
            bench.template.sampler,
            captions[: options.profile_clips],
            Path(options.cache_dir),
            watch.show,
        )
    return Lab(
        bench,
        clips,
        measured=make_clip_set(bench, clips),
        tuning=make_clip_set(bench, tuned),
        captions=captions,
        profile=profile,
        profile_clips=options.profile_clips,
        grid=QUICK if options.quick else FULL,
        console=console,
    )


def _under_euler(bench: Bench, steps: int) -> SampleRequest:
    """Return the model's own settings with Euler, the paper's sampler, if its family has it."""
    own = bench.template
    _, slash, shift = own.sampler.partition("/")
    euler = EULER in bench.model.spec.family.samplers
    return dataclasses.replace(
        own,
        sampler=f"{EULER}{slash}{shift}" if euler else own.sampler,
        num_inference_steps=steps or own.num_inference_steps,
    )


def other_settings(
    template: SampleRequest, spec: ModelSpec, steps: int, size: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return the settings that profiles are transferred to, by name: other steps, another size.

    Args:
        template: The settings of the profile.
        spec: The model.
        steps: The other number of steps.
        size: The other width and height; empty for half of the template's.

    Raises:
        UserError: The model cannot make this size.
    """
    multiple = spec.sizes.multiple
    halves = [side // 2 // multiple * multiple for side in (template.width, template.height)]
    width, height = size or [max(multiple, half) for half in halves]
    if min(width, height) < 1:
        raise UserError(f"--transfer-size {width} {height}: at least 1 is needed")
    if problem := spec.sizes.problem(width, height, template.num_frames):
        raise UserError(f"--transfer-size {width} {height}: {problem}")
    return {
        f"{steps} steps": {"num_inference_steps": steps},
        f"{width}x{height}": {"width": width, "height": height},
    }
