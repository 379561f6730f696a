"""The simulator against closed forms, and against a real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from jobs.benchmarks.fleet.simulation import (
    Fleet,
    FleetWorkload,
    Servers,
    simulate,
)
from pipeline.config.run_config import RunConfig
from pipeline.run import run
from tests.e2e.engines import obedient
from tests.property_examples import examples

FREE = Servers()


@given(
    groups=st.integers(1, 6),
    ranks=st.sampled_from([1, 2, 4, 8]),
    samples=st.integers(1, 400),
    load_s=st.floats(0, 100),
    clip_s=st.floats(0.1, 50),
)
@settings(max_examples=examples(60))
def test_without_failures_a_run_takes_what_its_clips_take(
    groups: int, ranks: int, samples: int, load_s: float, clip_s: float
) -> None:
    fleet = Fleet(gpus=groups * ranks, gpus_per_group=ranks, load_s=load_s)
    out = simulate(fleet, FleetWorkload(samples, clip_s, 0.0, 0), FREE)
    ideal = load_s + samples * clip_s / groups
    assert ideal * (1 - 1e-9) <= out.wall_s <= ideal + clip_s * (1 + 1e-9)
    assert out.useful_s == pytest.approx(samples * clip_s * ranks)
    assert out.loading_s == pytest.approx(load_s * groups * ranks)
    assert out.gpu_s == pytest.approx(out.wall_s * groups * ranks)
    assert (out.lost_s, out.deaths) == (0, 0)


@pytest.mark.parametrize("name", ["driver", "ledger", "store"])
def test_a_server_that_is_full_sets_the_pace(name: str) -> None:
    servers = Servers(**{f"{name}_s": 0.5})
    out = simulate(Fleet(gpus=64), FleetWorkload(20_000, 10.0, 0.0, 0), servers)
    assert out.wall_s == pytest.approx(20_000 * 0.5, rel=0.05)  # 64 groups could do 6.4 a second
    assert out.busy[name] > 0.95


@given(seed=st.integers(0, 2**32))
@settings(max_examples=examples(15))
def test_every_sample_is_made_once_and_every_second_is_accounted_for(seed: int) -> None:
    fleet = Fleet(64, 2, load_s=60, node_life_s=2000, replace_s=300, straggler_share=0.2)
    work = FleetWorkload(3000, 5.0, 1.0, 25, 2.0)
    out = simulate(fleet, work, Servers(0.01, 0.001, 0.001), seed)
    assert out.useful_s == pytest.approx(3000 * work.clip_s * 2, rel=0.02)
    assert out.useful_s + out.lost_s + out.loading_s <= out.gpu_s * (1 + 1e-9)
    assert out.deaths > 0 < out.cut_short


def test_deaths_cost_half_a_clip_and_a_start_each() -> None:
    fleet = Fleet(800, 1, load_s=120, node_life_s=20_000, replace_s=600)
    out = simulate(fleet, FleetWorkload(200_000, 100.0, 0.0, 0), FREE, seed=1)
    node_s = out.gpu_s / fleet.gpus_per_node
    assert out.deaths == pytest.approx(node_s / fleet.node_life_s, rel=0.3)
    # A node's groups go in step here, so there are as many independent losses as deaths: 5 %.
    assert out.lost_s / out.cut_short == pytest.approx(100.0 / 2, rel=0.2)
    starts = out.deaths * fleet.gpus_per_node + 800
    assert out.loading_s == pytest.approx(starts * fleet.load_s, rel=0.1)


def test_stragglers_slow_a_run_by_their_share_as_others_take_over() -> None:
    fleet = Fleet(400, straggler_share=0.25, straggler_factor=2.0)
    out = simulate(fleet, FleetWorkload(40_000, 10.0, 0.0, 0), FREE, seed=3)
    pace = 40_000 / out.wall_s  # 400 good ones make 40 a second
    assert pace == pytest.approx(40 * (0.75 + 0.25 / 2), rel=0.06)


def test_a_run_of_ten_million_samples_is_cut_into_few_events() -> None:
    out = simulate(Fleet(80), FleetWorkload(10_000_000, 10.0, 0.0, 0), FREE)
    assert out.events < 20_000
    assert out.wall_s == pytest.approx(10_000_000 * 10 / 80, rel=1e-4)


def test_groups_that_do_not_fill_a_node_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 3 do not fill nodes of 8"):
        simulate(Fleet(24, 3), FleetWorkload(1, 1.0, 0.0, 0), FREE)
    assert math.isinf(Fleet(8).node_life_s)


@pytest.fixture
def small_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=6, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.variant
@pytest.mark.slow
def test_a_real_run_takes_what_the_simulation_says(small_ray: None, tmp_path: Path) -> None:
    """Two groups, sixteen clips of 0.8 s: the seconds come from the rows themselves."""
    (tmp_path / "p.txt").write_text("".join(f"clip {n}\n" for n in range(16)))
    config = RunConfig(
        prompts=str(tmp_path / "p.txt"),
        output=str(tmp_path / "out"),
        cache={"policy": "none"},
        batch_rows=1,
        replicas=2,
    )
    run(config, factory=obedient(0.8), console=Console(quiet=True))
    table = ds.dataset(tmp_path / "out" / "data", format="parquet").to_table()
    walls = table["wall_s"].to_pylist()
    ends = sorted(each.timestamp() for each in table["created_at"].to_pylist())
    real_s = ends[-1] - ends[0]
    mean_s = sum(walls) / len(walls)
    simulated = simulate(Fleet(2, 1, 2), FleetWorkload(16, mean_s, 0.0, 0), FREE)
    # From the first row on, since two groups need not be ready at once. The rest of a sample's
    # time is not in `wall_s`, so the real run is the longer one, and by less than the clips take.
    expected_s = simulated.wall_s - mean_s
    assert len(walls) == 16
    assert expected_s * 0.8 <= real_s <= expected_s * 3
