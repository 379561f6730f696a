"""Other ways of skipping network evaluations, behind one interface.

| class | knob or schedule | what a reused step returns |
|---|---|---|
| `UniformSkipping`, `FirstThenEvery` | exact number of steps | the last output |
| `UniformTaylor` | exact number of steps | the output, extrapolated |
| `DPCache` | exact number of steps; `DPCache.fitted` | the output, extrapolated |
| `LeMiCa` | exact number of steps; `LeMiCa.fitted` | the last output |
| `CacheDit` | exact number of steps | as cache-dit does, by calibrator |
| `TeaCache` | threshold; `TeaCache.fitted` | what the blocks add to the tokens |
| `MagCache` | threshold; `MagCache.fitted` | what the blocks add to the tokens |
| `EasyCache` | threshold | what the network adds to the latents |
| `FirstBlockCache`, `DiffusersMagCache`, `SeaCache` | threshold | as diffusers does |
| `TaylorSeer` | interval | as diffusers does, in lite mode |
| `FasterCache`, `PyramidAttentionBroadcast` | interval | attention alone, as diffusers does |
| `SenCachePaper`, `AnySenCache` | epsilon; as configured | as this library does |
| `Planned` | exact number of steps | as this library does |
| `Gated` | mean number of steps | as this library does |
"""

from jobs.benchmarks.baselines.attention import FasterCache, PyramidAttentionBroadcast
from jobs.benchmarks.baselines.base import (
    Baseline,
    BaselineResult,
    Decisions,
    Scheduled,
    Tunable,
    UnsupportedError,
    nfe_of,
)
from jobs.benchmarks.baselines.cache_dit import CacheDit
from jobs.benchmarks.baselines.dpcache import DPCache
from jobs.benchmarks.baselines.easycache import EasyCache
from jobs.benchmarks.baselines.in_diffusers import (
    DiffusersMagCache,
    FirstBlockCache,
    SeaCache,
    TaylorSeer,
)
from jobs.benchmarks.baselines.lemica import LeMiCa
from jobs.benchmarks.baselines.magcache import MagCache
from jobs.benchmarks.baselines.own import (
    AnySenCache,
    CalibrationRun,
    Gated,
    Planned,
    SenCachePaper,
)
from jobs.benchmarks.baselines.schedules import FirstThenEvery, UniformSkipping, UniformTaylor
from jobs.benchmarks.baselines.teacache import TeaCache

__all__ = [
    "AnySenCache",
    "Baseline",
    "BaselineResult",
    "CacheDit",
    "CalibrationRun",
    "DPCache",
    "Decisions",
    "DiffusersMagCache",
    "EasyCache",
    "FasterCache",
    "FirstBlockCache",
    "FirstThenEvery",
    "Gated",
    "LeMiCa",
    "MagCache",
    "Planned",
    "PyramidAttentionBroadcast",
    "Scheduled",
    "SeaCache",
    "SenCachePaper",
    "TaylorSeer",
    "TeaCache",
    "Tunable",
    "UniformSkipping",
    "UniformTaylor",
    "UnsupportedError",
    "nfe_of",
]
