"""A dataset by actors that own several ranks each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import ray

from jobs.generate import main
from pipeline.dataset import mp4
from tests.e2e.services import patient_start

PROMPTS = ("a red circle moving left quickly", "a blue square moving up slowly")


@pytest.fixture
def roomy_ray() -> Iterator[None]:
    """Room for one group of two ranks beside Ray Data's own tasks."""
    with patient_start():
        ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_split_model_makes_the_dataset_of_a_whole_one(roomy_ray: None, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS) + "\n")
    flags = ["--prompts", str(tmp_path / "p.txt"), "--sampling.num-inference-steps", "6"]
    flags += ["--cache.budget", "0.5", "--device", "cpu"]
    rows, folders = [], ("1", "2", "cfg")
    for folder, split in zip(folders, ("1", "2", "2 --parallel.cfg 2"), strict=True):
        output = tmp_path / folder
        layout = ["--parallel.degree", *split.split()]
        assert main([*flags, "--output", str(output), *layout]) == 0
        table = ds.dataset(output / "data", format="parquet").to_table().to_pylist()
        rows.append({row["sample_id"]: row for row in table})
    whole, *others = rows
    assert [row["parallel"]["cfg"] for row in others[1].values()] == [2] * len(PROMPTS)
    for folder, split in zip(folders[1:], others, strict=True):
        assert split.keys() == whole.keys()
        for sample_id, other in split.items():
            one = whole[sample_id]
            assert (one["status"], other["status"]) == ("ok", "ok")
            assert (one["group_size"], other["group_size"]) == (1, 2)
            assert other["cache"]["decisions"] == one["cache"]["decisions"]
            assert other["gpu_s"] == pytest.approx(2 * other["wall_s"])
            pixels = frames_of(tmp_path / folder, other) - frames_of(tmp_path / "1", one)
            assert np.abs(pixels).mean() < 1.0  # of 255; the codec may turn on a last bit


def frames_of(output: Path, row: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return mp4.decode((output / row["video"]["path"]).read_bytes()).astype(int)
