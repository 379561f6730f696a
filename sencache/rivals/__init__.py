"""Other ways of skipping network evaluations, behind one interface.

| class | knob or schedule | what a reused step takes |
|---|---|---|
| `UniformSkipping`, `FirstThenEvery` | exact number of steps | the last output |
| `UniformTaylor` | exact number of steps | the output, extrapolated |
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
from sencache.rivals.own import AnySenCache, SenCachePaper
from sencache.rivals.schedules import FirstThenEvery, UniformSkipping, UniformTaylor

__all__ = [
    "AnySenCache",
    "Decisions",
    "FirstThenEvery",
    "Outcome",
    "Rival",
    "Scheduled",
    "SenCachePaper",
    "Tunable",
    "UniformSkipping",
    "UniformTaylor",
    "UnsupportedError",
    "nfe_of",
]
