"""Ids of all requests, and the clips of those that a processor makes in moments.

A clip is recorded by its network evaluations, its decisions, a hash of its frames, and a coarse
grid of every frame, which another processor must match nearly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden import names
from tests.golden.materials import Materials, drift, with_plain_images
from tests.golden.requests import Case, all_cases, requests_of, settings_of

GRID = 4
"""Cells of a frame in each direction."""

LIBRARY_POLICIES: Mapping[str, Mapping[str, Any]] = {
    "none": {"policy": "none"},
    "paper": {"epsilon": 0.3, "strict_fraction": 0.0},
    "correct": {"epsilon": 0.3, "strict_fraction": 0.0, "correct": True},
    "residual": {"epsilon": 0.3, "strict_fraction": 0.0, "reuse": "residual"},
    "planned": {"policy": "planned", "budget": 0.5},
    "gated": {"policy": "planned", "budget": 0.5, "gate": 2, "gate_ratio": 0.5},
    "official": {"policy": "official", "epsilon": 0.3, "strict_fraction": 0.0},
}
"""What every tiny pipeline is sampled with by the library alone."""

PUBLISHED = ("wan", "cogvideox", "ltx")
"""Families for which the authors of the paper published a script."""


def ids(folder: Path) -> dict[str, Any]:
    """Sample id and identity of every request."""
    materials, found = Materials(folder), {}
    with _quiet():
        for case in all_cases():
            for name, request in _named(case, requests_of(case, materials)):
                found[name] = {"id": request.sample_id, "identity": request.identity_json()}
    return found


def samples(folder: Path, every: int = 1) -> dict[str, Any]:
    """Clips of every request that can be made here, and the machine that made them.

    Args:
        folder: An empty folder for what it needs.
        every: Take every n-th case alone.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with _quiet():
            clips = {**_requested(Materials(folder), every), **_library(every)}
    finally:
        torch.use_deterministic_algorithms(False)
    return {"clips": clips, "machine": machine()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: what is said is recorded elsewhere."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def machine() -> dict[str, str]:
    """What decides whether floating-point results are equal bit by bit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = set(facts.get("flags", "").split())
    return {
        "processor": facts.get("model name", platform.processor()),
        "vectors": " ".join(
            sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma")))
        ),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{
            name: version(name)
            for name in ("torch", "diffusers", "transformers", "numpy", "pillow")
        },
    }


def _named(case: Case, requests: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for number, request in enumerate(requests):
        yield case.name + (f" #{number}" if len(requests) > 1 else ""), request


def _requested(materials: Materials, every: int) -> dict[str, Any]:
    """Clips of requests, made by the engine of a run."""
    found: dict[str, Any] = {}
    engines: dict[Any, Any] = {}
    for case in [each for each in all_cases() if each.weights != "absent"][::every]:
        settings, model = settings_of(case, materials)
        key = (case.model, case.weights, str(settings.engine), settings.dtype)
        if key not in engines:
            for engine in engines.values():
                engine.close()
            # A profile is needed by any cached request, so the engine is made as for one.
            cached = settings.cache.model_copy(update={"policy": "paper", "epsilon": 0.1})
            full = settings.model_copy(update={"cache": cached})
            engines = {key: names.engine_factory(full, model, device="cpu", threads=1)()}
        requests = requests_of(case, materials)
        for batch in _batches(case, requests):
            try:
                made = engines[key].generate([request for _, request in batch])
            except ValueError as error:
                found |= {name: {"error": " ".join(str(error).split())} for name, _ in batch}
                continue
            for (name, _), clip in zip(batch, made, strict=True):
                cache = clip.cache
                found[name] = clip_record(clip.frames, cache["nfe"], cache["decisions"])
    for engine in engines.values():
        engine.close()
    return found


def _batches(case: Case, requests: Sequence[Any]) -> list[list[tuple[str, Any]]]:
    """All rows in one call; a control is a call of its own."""
    named = list(_named(case, requests))
    plain = [(name, request) for name, request in named if not request.control_of]
    return [plain, *([pair] for pair in named if pair[1].control_of)]


def _library(every: int) -> dict[str, Any]:
    """Latents of every tiny pipeline, two rows in a call, cached by the library alone."""
    found: dict[str, Any] = {}
    for number, tiny in enumerate(names.TINY_PIPELINES):
        pipe = with_plain_images(tiny.make())
        for policy, given in list(LIBRARY_POLICIES.items())[number % every :: every]:
            profile: Any = dataclasses.replace(names.fitting_profile(pipe), drift=drift())
            family = profile.metadata.family
            if policy == "official":
                if family not in PUBLISHED:
                    continue
                profile = names.OfficialProfile(
                    (999, 750, 500, 250, 20), (9.0, 6.0, 4.0, 3.0, 2.0), (0.5, 1, 2, 3, 4), family
                )
            name = f"library/{tiny.name}/{policy}"
            for guided in (True, False) if policy in ("paper", "planned") else (True,):
                where = name if guided else f"{name}/unguided"
                found |= _library_run(where, tiny, pipe, given, profile, guided)
    return found


def _library_run(
    name: str, tiny: Any, pipe: Any, given: Mapping[str, Any], profile: Any, guided: bool
) -> dict[str, Any]:
    try:
        handle = names.apply_sencache(pipe, names.SenCacheConfig(**given), profile)
        steps = {"steps": 24} if "gate" in given else {}  # a gate needs room
        latents = tiny.run(pipe, [0, 1], guidance=guided, **steps)
        stats = handle.stats()
    except ValueError as error:
        return {name: {"error": " ".join(str(error).split())}}
    finally:
        names.remove_sencache(pipe)
    return {
        f"{name} #{number}": clip_record(row.float().numpy(), each.nfe, each.decisions)
        for number, (row, each) in enumerate(zip(latents, stats, strict=True))
    }


def clip_record(frames: np.ndarray[Any, Any], nfe: int, decisions: str) -> dict[str, Any]:
    """What is kept of a clip.

    Args:
        frames: uint8 of shape (frames, height, width, 3), or float32 latents of any shape.
        nfe: Network evaluations.
        decisions: A letter per step.
    """
    return {
        "decisions": decisions,
        "grids": list(_grids(frames)),
        "nfe": nfe,
        "sha256": hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest(),
        "shape": "x".join(map(str, frames.shape)),
    }


def _grids(frames: np.ndarray[Any, Any]) -> Iterator[str]:
    """Means over the cells of every frame, or of latents as a whole, two hex digits each."""
    values = frames.astype(np.float64)
    if frames.dtype != np.uint8:
        cells = [np.array_split(values.ravel() * 32 + 128, GRID * GRID * 4)]  # a few units each
    else:
        bands = [np.array_split(frame, GRID) for frame in values.mean(-1)]
        cells = [
            [cell for each in band for cell in np.array_split(each, GRID, 1)] for band in bands
        ]
    for row in cells:
        yield bytes(min(255, max(0, round(float(cell.mean())))) for cell in row).hex()
