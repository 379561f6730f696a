"""The ablation studies of the paper (arXiv 2602.24208), as variants of its rule."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from jobs.benchmarks.ablation.lab import Lab, Study, counted
from jobs.benchmarks.ablation.runs import ClipSet, Variant, make_clip_set
from jobs.benchmarks.baselines import SenCachePaper
from jobs.benchmarks.profiles.bench import with_changes
from jobs.benchmarks.profiles.transfer import compare_profiles
from jobs.benchmarks.quality.progress_line import show_progress
from jobs.benchmarks.quality.splits import CALIBRATION, FIRST_SEED
from jobs.benchmarks.quality.tuning import TunedParameter
from sencache import ProfileWarning, SenCacheConfig, SensitivityProfile

Term = Literal["a_x", "a_t"]
TERMS: Mapping[str, tuple[Term, ...]] = {
    "both terms": (),
    "x term only": ("a_t",),
    "t term only": ("a_x",),
}
"""The sensitivities that each rule leaves out."""


def most_reuses(lab: Lab) -> Study:
    """Vary the cap n at fixed epsilons."""
    variants = [
        _variant(lab.profile, epsilon, max_reuse)
        for epsilon in lab.grid.fixed_epsilons
        for max_reuse in lab.grid.max_reuses
    ]
    return lab.measure("most reuses in a row, n", variants)


def thresholds(lab: Lab) -> Study:
    """Vary epsilon at the paper's n."""
    variants = [_variant(lab.profile, epsilon) for epsilon in lab.grid.epsilons]
    return lab.measure("threshold, epsilon", variants)


def terms(lab: Lab) -> Study:
    """Use each term of the score alone, and both, at one NFE: half of the steps."""
    wanted = lab.measured.steps / 2
    variants: list[Variant] = []
    with show_progress(lab.console, f"tuning to NFE {wanted:g}") as watch:
        for done, (name, without) in enumerate(TERMS.items()):
            watch.show(done, len(TERMS), name)
            rule = SenCachePaper(without_terms(lab.profile, without), SenCacheConfig())
            nfe = functools.partial(_nfe, lab.tuning, rule)
            epsilon, _ = TunedParameter(nfe, rule.low, rule.high).find(wanted)
            against = variants[0].name if variants else ""
            variants.append(Variant(f"{name}, epsilon {epsilon:.3g}", rule.tuned(epsilon), against))
    return lab.measure(f"terms of the score, tuned to NFE {wanted:g}", variants)


def calibration_sizes(lab: Lab, counts: Sequence[int]) -> Study:
    """Compare profiles of few clips with one of many; no two of them share a clip."""
    seed, profiles = FIRST_SEED[CALIBRATION], {}
    for count in sorted(set(counts), reverse=True):
        profiles[count] = lab.calibrate(count, seed, "default setting")
        seed += count
    most = max(profiles)
    variants = [
        _variant(
            profiles[count],
            epsilon,
            name=f"{counted(count)}, ",
            against="" if count == most else f"{counted(most)}, ",
        )
        for epsilon in lab.grid.equal_epsilons
        for count in sorted(profiles)
    ]
    study = lab.measure("clips of the calibration", variants)
    curves = {
        f"{count} against {counted(most)}": _differences(profiles[count], profiles[most])
        for count in sorted(profiles)
        if count != most
    }
    return dataclasses.replace(study, curves=curves)


def transfers(lab: Lab, settings: Mapping[str, Mapping[str, Any]]) -> Study:
    """Compare the model's profile under other settings with a native profile of each setting.

    Args:
        lab: What the studies share.
        settings: Changes of the sampling settings, by name.
    """
    rows, curves = [], {}
    for name, changes in settings.items():
        native = lab.calibrate(lab.profile_clips, FIRST_SEED[CALIBRATION], name, changes)
        variants = []
        for epsilon in lab.grid.equal_epsilons:
            own = _variant(native, epsilon, name=f"{name}, native, ")
            given = _variant(lab.profile, epsilon, name=f"{name}, transferred, ")
            variants += [own, dataclasses.replace(given, against=own.name)]
        template = with_changes(lab.bench.template, changes)
        clip_set = make_clip_set(dataclasses.replace(lab.bench, template=template), lab.clips)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProfileWarning)  # transferring a profile is intended
            rows += lab.measure(f"profiles under {name}", variants, clip_set).rows
        curves[f"transferred against native, {name}"] = _differences(lab.profile, native)
    return Study("profiles under other settings", rows, curves)


def without_terms(profile: SensitivityProfile, names: Sequence[Term]) -> SensitivityProfile:
    """Return a profile with some sensitivities set to zero, so that their terms vanish."""
    zeros: dict[str, Any] = dict.fromkeys(names, 0.0)
    branches = {
        branch: tuple(dataclasses.replace(point, **zeros) for point in points)
        for branch, points in profile.branches.items()
    }
    return dataclasses.replace(profile, branches=branches)


def _variant(
    profile: SensitivityProfile,
    epsilon: float,
    max_reuse: int = 3,
    *,
    name: str = "",
    against: str = "",
) -> Variant:
    """Return a variant named by its settings; `name` and `against` are prefixes of that name."""
    settings = f"epsilon {epsilon:g}, n {max_reuse}"
    rule = SenCachePaper(profile, SenCacheConfig(epsilon=epsilon, max_reuse=max_reuse))
    return Variant(name + settings, rule, against and against + settings)


def _nfe(clip_set: ClipSet, rule: SenCachePaper, epsilon: float) -> float:
    return clip_set.nfe(rule.tuned(epsilon))


def _differences(
    profile: SensitivityProfile, reference: SensitivityProfile
) -> list[dict[str, Any]]:
    return [asdict(difference) for difference in compare_profiles(profile, reference)]
