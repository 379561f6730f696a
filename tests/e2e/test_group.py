"""A dataset by actors that own several ranks each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import ray

from jobs.generate import main
from pipeline import media

PROMPTS = ("a red circle moving left quickly", "a blue square moving up slowly")


@pytest.fixture
def roomy_ray() -> Iterator[None]:
    """Room for one group of two ranks beside Ray Data's own tasks."""
    ray.init(address="local", num_cpus=6, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_split_model_makes_the_dataset_of_a_whole_one(roomy_ray: None, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS) + "\n")
    flags = ["--prompts", str(tmp_path / "p.txt"), "--sampling.num-inference-steps", "8"]
    flags += ["--cache.budget", "0.5", "--device", "cpu"]
    rows = {}
    for degree in (1, 2):
        output = tmp_path / str(degree)
        assert main([*flags, "--output", str(output), "--parallel.degree", str(degree)]) == 0
        table = ds.dataset(output / "data", format="parquet").to_table().to_pylist()
        rows[degree] = {row["sample_id"]: row for row in table}
    assert rows[1].keys() == rows[2].keys()
    for sample_id, whole in rows[1].items():
        split = rows[2][sample_id]
        assert (whole["status"], split["status"]) == ("ok", "ok")
        assert (whole["group_size"], split["group_size"]) == (1, 2)
        assert split["cache"]["decisions"] == whole["cache"]["decisions"]
        assert split["gpu_s"] == pytest.approx(2 * split["wall_s"])
        one, other = (
            media.decode((tmp_path / folder / row["video"]["path"]).read_bytes()).astype(int)
            for folder, row in (("1", whole), ("2", split))
        )
        assert np.abs(one - other).mean() < 1.0  # of 255; the codec may turn on a last bit
