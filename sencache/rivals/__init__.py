"""Other ways of skipping network evaluations, behind one interface.

| class | knob or schedule | what a reused step takes |
|---|---|---|
| `UniformSkipping`, `FirstThenEvery` | exact number of steps | the last output |
| `UniformTaylor` | exact number of steps | the output, extrapolated |
| `TeaCache` | threshold; `TeaCache.fitted` | what the blocks add to the tokens |
| `MagCache` | threshold; `MagCache.fitted` | what the blocks add to the tokens |
| `EasyCache` | threshold | what the network adds to the latents |
| `SenCachePaper`, `AnySenCache` | epsilon; as configured | as this library does |
"""

from sencache.rivals.base import (
    Decisions,
    Outcome,
    Rival,
    Scheduled,
    Tunable,
    UnsupportedError,
    nfe_of,
)
from sencache.rivals.easycache import EasyCache
from sencache.rivals.magcache import MagCache
from sencache.rivals.own import AnySenCache, SenCachePaper
from sencache.rivals.schedules import FirstThenEvery, UniformSkipping, UniformTaylor
from sencache.rivals.teacache import TeaCache

__all__ = [
    "AnySenCache",
    "Decisions",
    "EasyCache",
    "FirstThenEvery",
    "MagCache",
    "Outcome",
    "Rival",
    "Scheduled",
    "SenCachePaper",
    "TeaCache",
    "Tunable",
    "UniformSkipping",
    "UniformTaylor",
    "UnsupportedError",
    "nfe_of",
]
