"""ColorVideoVDP and FLIP on clips whose order is known, and what JOD mean."""

from __future__ import annotations

import pytest
import torch

from jobs.benchmarks.quality import perception
from jobs.benchmarks.quality.perception import INVISIBLE_JOD, load_flip, load_jod, preferring


def test_one_jod_is_what_three_of_four_observers_prefer() -> None:
    assert preferring(10) == pytest.approx(0.5)
    assert preferring(9) == pytest.approx(0.75)
    assert preferring(INVISIBLE_JOD) == pytest.approx(0.527, abs=5e-4)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(perception.importlib, "import_module", refuse)
    for load, package in ((lambda: load_jod(16), "cvvdp"), (load_flip, "flip-evaluator")):
        measure, why = load()
        assert measure is None
        assert package in why
        assert "extra `perception`" in why


@pytest.mark.slow
def test_a_larger_error_is_seen_better() -> None:
    torch.manual_seed(0)
    clip = torch.nn.functional.interpolate(torch.rand(5, 3, 8, 8), 64, mode="bicubic").clamp(0, 1)
    noise = torch.randn_like(clip)
    jod, no_jod = load_jod(16)
    flip, no_flip = load_flip()
    if jod is None or flip is None:
        pytest.skip(no_jod or no_flip)
    seen = [jod(clip + size * noise, clip) for size in (0.0, 0.01, 0.1)]
    assert seen[0] == pytest.approx(10.0)
    assert 10 > seen[1] > seen[2]
    errors = [flip(clip + size * noise, clip) for size in (0.0, 0.01, 0.1)]
    assert errors[0] == pytest.approx(0.0, abs=1e-6)
    assert 0 < errors[1] < errors[2] < 1
