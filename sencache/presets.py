"""Settings that SenCache was published with, by name.

The paper's (arXiv 2602.24208, section 4 and its supplement): 50 steps, the first 20 % of them
under epsilon 0.01, then the model's own epsilon; "slow" caps reuse at 2 in a row, "fast" at 3.
Those of the authors' public code are other numbers for another quantity and need their
sensitivity files (:mod:`sencache.profiles.official`).

A preset is a starting point: epsilon was tuned on those models at those sizes and 50 steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from sencache.config import SenCacheConfig
from sencache.profiles.official import OFFICIAL_SETTINGS, README_SETTINGS, OfficialSettings

STEPS = 50
"""Steps of the runs that the settings were published for."""


def _paper(epsilon: float, max_reuse: int) -> SenCacheConfig:
    return SenCacheConfig(
        epsilon=epsilon, max_reuse=max_reuse, strict_epsilon=0.01, strict_fraction=0.2
    )


def _official(settings: OfficialSettings) -> SenCacheConfig:
    return SenCacheConfig(
        policy="official",
        epsilon=settings.epsilon,
        max_reuse=settings.max_reuse,
        strict_epsilon=settings.strict_epsilon,
        strict_fraction=settings.strict_fraction,
        final_computed=settings.forced_steps(STEPS),
    )


QUALITY: Mapping[str, SenCacheConfig] = {
    "lossless": SenCacheConfig(policy="none"),
    "high": SenCacheConfig(policy="planned", budget=0.5),
    "balanced": SenCacheConfig(policy="planned", budget=0.34),
    "fast": SenCacheConfig(policy="planned", budget=0.26),
}
"""The one knob: how much quality may be paid for speed, from the measurements in BENCHMARKS.md.

On held-out clips of the demonstration model the worst tenth keeps 61, 46 and 38 dB or more to the
uncached clip, whichever the sampler.
"""

PRESETS: Mapping[str, SenCacheConfig] = {
    "wan2.1-slow": _paper(0.1, 2),
    "wan2.1-fast": _paper(0.2, 3),
    "cogvideox-slow": _paper(0.6, 2),
    "cogvideox-fast": _paper(0.6, 3),
    "ltx-slow": _paper(0.5, 2),
    "ltx-fast": _paper(0.5, 3),
    **{f"official-{name}": _official(each) for name, each in OFFICIAL_SETTINGS.items()},
    **{f"official-{name}-readme": _official(each) for name, each in README_SETTINGS.items()},
}
"""Name to settings; change one with ``dataclasses.replace``."""
