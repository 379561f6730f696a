"""A dataset by actors that own several ranks each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from jobs.generate import main
from pipeline.dataset import mp4

PROMPTS = ("a red circle moving left quickly", "a blue square moving up slowly")

Made = tuple[Path, dict[str, dict[str, Any]]]
"""An output and its rows by id."""


def make(folder: Path, *layout: str) -> Made:
    """Make the dataset by groups of one layout."""
    (folder / "p.txt").write_text("\n".join(PROMPTS) + "\n")
    flags = ["--prompts", str(folder / "p.txt"), "--output", str(folder / "out")]
    flags += ["--sampling.num-inference-steps", "6", "--cache.budget", "0.5", "--device", "cpu"]
    flags += ["--sampling.width", "32", "--sampling.height", "32", "--sampling.num-frames", "5"]
    assert main([*flags, "--replicas", "1", "--parallel.degree", *layout]) == 0
    table = ds.dataset(folder / "out" / "data", format="parquet").to_table().to_pylist()
    return folder / "out", {row["sample_id"]: row for row in table}


@pytest.fixture(scope="module")
def whole(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("whole"), "1")


@pytest.mark.slow
@pytest.mark.parametrize("cfg", [2, pytest.param(1, marks=pytest.mark.variant)])
def test_a_split_model_makes_the_dataset_of_a_whole_one(
    whole: Made, tmp_path: Path, cfg: int
) -> None:
    folder, split = make(tmp_path, "2", "--parallel.cfg", str(cfg))
    alone, rows = whole
    assert split.keys() == rows.keys()
    assert len(rows) == len(PROMPTS)
    for sample_id, other in split.items():
        one = rows[sample_id]
        assert (one["status"], other["status"]) == ("ok", "ok")
        assert (one["group_size"], other["group_size"]) == (1, 2)
        assert other["parallel"]["cfg"] == cfg
        assert other["cache"]["decisions"] == one["cache"]["decisions"]
        assert other["gpu_s"] == pytest.approx(2 * other["wall_s"])
        pixels = frames_of(folder, other) - frames_of(alone, one)
        assert np.abs(pixels).mean() < 1.0  # of 255; the codec may turn on a last bit


def frames_of(output: Path, row: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return mp4.decode((output / row["video"]["path"]).read_bytes()).astype(int)
