"""Memory by the shipped figures, against what a GPU measured and against fake tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.memory import markdown
from pipeline.models.engine_options import EngineOptions
from pipeline.models.memory import cards
from pipeline.models.memory import need as need_module
from pipeline.models.memory.cards import CARDS, SMALLEST_SERVED
from pipeline.models.memory.need import (
    CONTEXT_GB,
    MemoryNeed,
    Workload,
    figures,
    filling_rows,
    memory_need,
)
from pipeline.models.registry import MODELS, get_model
from pipeline.parallel.layout import ParallelLayout

DOCUMENT = Path(__file__).parents[4] / "docs" / "gpu.md"

NOT_MEASURED = {"demo"}
SMALL, LARGE, TWO = "wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-t2v-a14b"
P480, P720 = Workload(832, 480, 81), Workload(1280, 720, 81)


def need(name: str, work: Workload, policy: str = "none", **rest: Any) -> MemoryNeed:
    found = memory_need(get_model(name), work, policy, **rest)
    assert found is not None
    return found


# The peaks of docs/gpu.md, in GB, weights included.
@pytest.mark.parametrize(
    ("estimate", "measured"),
    [
        (lambda: need(SMALL, P480).weights["networks"] + need(SMALL, P480).sampling, 4.6),
        (
            lambda: (
                need(SMALL, dataclasses.replace(P480, rows=2)).weights["networks"]
                + need(SMALL, dataclasses.replace(P480, rows=2)).sampling
            ),
            6.2,
        ),
        (lambda: need(LARGE, P720).weights["networks"] + need(LARGE, P720).sampling, 37.2),
        (lambda: need(SMALL, P480).weights["vae"] + need(SMALL, P480).decode, 10.0),
        (lambda: need(SMALL, P720).weights["vae"] + need(SMALL, P720).decode, 22.3),
        (
            lambda: (
                need(SMALL, dataclasses.replace(P480, rows=2)).weights["vae"]
                + need(SMALL, dataclasses.replace(P480, rows=2)).decode
            ),
            10.4,
        ),
        (lambda: need(SMALL, P480).weights["text"] + need(SMALL, P480).text, 11.6),
    ],
)
def test_the_estimates_meet_what_an_h200_measured(
    estimate: Callable[[], float], measured: float
) -> None:
    assert estimate() == pytest.approx(measured, rel=0.04)


def test_every_model_runs_at_its_default_size_on_an_80_gb_card_without_a_flag() -> None:
    for name in figures():
        own = get_model(name).defaults
        work = Workload(own.width, own.height, own.num_frames)
        assert need(name, work, "planned").total < CARDS[SMALLEST_SERVED], name
    assert figures().keys() == MODELS.keys() - NOT_MEASURED


def test_wan_2_2_needs_its_tiles() -> None:
    whole = need(TWO, P720, options=EngineOptions(vae_tiling=False))
    assert whole.total > CARDS[SMALLEST_SERVED] > need(TWO, P720).total


def test_memory_grows_with_what_is_asked_for() -> None:
    base = need(LARGE, P480)
    assert need(LARGE, P720).sampling > base.sampling
    assert need(LARGE, dataclasses.replace(P480, rows=2)).sampling == pytest.approx(
        2 * base.sampling
    )
    kept = {
        policy: (need(LARGE, P720, policy).sampling - need(LARGE, P720).sampling) * 1e3
        for policy in ("paper", "planned")
    }
    assert kept == {"paper": pytest.approx(29, abs=0.5), "planned": pytest.approx(39, abs=0.5)}
    residual = need(LARGE, P720, "paper", residual=True).sampling - need(LARGE, P720).sampling
    assert residual * 1e3 == pytest.approx(1577, abs=1)


def test_ranks_share_tokens_and_not_weights() -> None:
    alone, four = need(LARGE, P720), need(LARGE, P720, layout=ParallelLayout(ulysses=4))
    assert four.weights == alone.weights
    assert alone.sampling / 4 < four.sampling < alone.sampling / 3.8
    assert four.decode == alone.decode
    together = need(LARGE, P720, layout=ParallelLayout(ulysses=4, vae=True))
    assert together.decode == alone.decode / 4


def test_options_save_what_they_say() -> None:
    base = need(LARGE, P480)
    apart = need(LARGE, P480, parts="clips")
    assert apart.total == pytest.approx(base.total - base.weights["text"])
    offloaded = need(LARGE, P480, options=EngineOptions(offload="model"))
    assert offloaded.total == CONTEXT_GB + base.weights["networks"] + base.sampling
    assert need(LARGE, P480, options=EngineOptions(offload="sequential")).total < 12
    beside = need(LARGE, P480, options=EngineOptions(decode_beside=True))
    larger = max(base.sampling, base.decode)
    assert beside.total == pytest.approx(base.total - larger + base.sampling + base.decode)
    quantised = need(LARGE, P480, options=EngineOptions(quantise="nf4"))
    assert quantised.weights["networks"] == pytest.approx(0.28 * base.weights["networks"])


def test_a_model_without_figures_has_no_estimate() -> None:
    assert memory_need(get_model("demo"), P480) is None


def test_the_weights_are_those_of_the_registry() -> None:
    for name in figures():
        if (stated := get_model(name).weights_gb) is not None:
            assert sum(need(name, P480).weights.values()) == pytest.approx(stated, rel=0.01)


def test_the_document_has_the_table() -> None:
    assert markdown() in DOCUMENT.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        (SMALL, (640, 384, 49)),
        ("cogvideox-2b", (480, 480, 25)),
        pytest.param("wan2.2-ti2v-5b", (960, 512, 49), marks=pytest.mark.variant),
    ],
)
def test_between_the_measured_sizes_memory_is_a_straight_line(
    name: str, size: tuple[int, int, int]
) -> None:
    from jobs.benchmarks.memory.measure import decode_peak, sampling_peak
    from pipeline.models.memory.need import DECODE_WORKSPACE, SAMPLING_WORKSPACE

    spec = get_model(name)
    own = need(name, Workload(*size, guided=False))
    assert own.sampling * 1e9 / SAMPLING_WORKSPACE == pytest.approx(
        sampling_peak(spec, size), rel=0.05
    )
    assert own.decode * 1e9 / DECODE_WORKSPACE == pytest.approx(decode_peak(spec, size), rel=0.05)


@pytest.mark.parametrize(
    ("name", "work", "rows"),
    [
        (SMALL, P480, 1),  # two rows take twice as long
        (SMALL, P720, 1),
        ("ltx-video", Workload(704, 480, 161), 2),
        ("ltx-video", Workload(704, 480, 161, guided=False), 4),
        (SMALL, Workload(256, 256, 17), 8),
    ],
)
def test_a_batch_fills_a_gpu_and_no_larger_one(name: str, work: Workload, rows: int) -> None:
    assert filling_rows(get_model(name), work) == rows


def test_memory_limits_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(256, 256, 17)
    one, three = (need(SMALL, dataclasses.replace(work, rows=rows)).total for rows in (1, 3))
    for held, rows in ((one, 1), (three, 3)):
        known = {"a": one - 1, "b": held + 1e-6, "c": 1000.0}
        monkeypatch.setattr(cards, "CARDS", known)
        monkeypatch.setattr(need_module, "CARDS", known)
        assert filling_rows(get_model(SMALL), work, policy="none") == rows
    assert filling_rows(get_model("demo"), work) == get_model("demo").batch_rows
