"""Settings by name: quality levels of planned runs, and what SenCache was published with.

The paper (arXiv 2602.24208, section 4 and its supplement) has 50 steps, the first 20 % of them
under epsilon 0.01, then the model's own epsilon; "slow" allows 2 reuses in a row, "fast" 3. The
authors' public code has other numbers for another quantity and needs their sensitivity files
(:mod:`sencache.profiles.official`).

A preset is a starting point: its epsilon was tuned on those models at those sizes and 50 steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from sencache.config import DEFAULT_MAX_ERROR, SenCacheConfig
from sencache.families.base import OfficialSettings
from sencache.families.registry import FAMILIES

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
    "high": SenCacheConfig(policy="planned", max_error=0.0028),
    "balanced": SenCacheConfig(policy="planned", max_error=DEFAULT_MAX_ERROR),
    "fast": SenCacheConfig(policy="planned", max_error=0.02),
}
"""How much quality to give up for speed, from the measurements in BENCHMARKS.md.

On held-out clips of the demonstration model the 10 % quantile of the PSNR to the uncached clip is
at least 61, 46 and 38 dB, with every sampler.
"""

PRESETS: Mapping[str, SenCacheConfig] = {
    "wan2.1-slow": _paper(0.1, 2),
    "wan2.1-fast": _paper(0.2, 3),
    "cogvideox-slow": _paper(0.6, 2),
    "cogvideox-fast": _paper(0.6, 3),
    "ltx-slow": _paper(0.5, 2),
    "ltx-fast": _paper(0.5, 3),
    **{f"official-{each.name}": _official(each.official) for each in FAMILIES if each.official},
    **{
        f"official-{each.name}-readme": _official(each.official_readme)
        for each in FAMILIES
        if each.official_readme
    },
}
"""Name to settings; change one with ``dataclasses.replace``."""
