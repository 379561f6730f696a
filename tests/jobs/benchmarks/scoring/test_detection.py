"""Planted faults are found by their scores, and sound clips are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.benchmarks.scoring.detection import found_copies, found_faults
from jobs.benchmarks.scoring.faults import FAULTS
from tests.pipeline.scoring.made_clips import moving

CLIPS = [moving(seed, step=1 + seed % 3) for seed in range(12)]


def test_every_fault_changes_a_clip_and_keeps_its_shape() -> None:
    rng = np.random.default_rng(0)
    for name, fault in FAULTS.items():
        before = CLIPS[0].copy()
        made = fault.spoil(CLIPS[0], CLIPS[1], rng)
        assert made.shape == CLIPS[0].shape, name
        assert not np.array_equal(made, CLIPS[0]), name
        assert np.array_equal(CLIPS[0], before), name


def test_gross_faults_of_textured_clips_are_found() -> None:
    found = found_faults(CLIPS, 8.0)
    for name in ("frozen from some frame on", "two black frames", "flicker of 10 %", "a cut"):
        assert found[name]["found"] == 1.0, name


def test_a_fault_that_is_none_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    same = {
        name: type(fault)(lambda clip, other, rng: clip, fault.score, fault.higher)
        for name, fault in FAULTS.items()
    }
    monkeypatch.setattr("jobs.benchmarks.scoring.detection.FAULTS", same)
    for name, each in found_faults(CLIPS, 8.0).items():
        assert each["found"] <= 0.1, name  # one of twelve is above the 99th percentile


def test_copies_are_nearer_than_other_clips() -> None:
    for name, each in found_copies(CLIPS).items():
        assert each["found"] == 1.0, name
        assert each["bits"] > 20
