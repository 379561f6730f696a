"""Totals add up whatever failed, was retried or resumed; DuckDB gets the same sums by itself."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.benchmarks.prefixes.synthetic_rows import synthetic_parts
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.errors import StorageError, UserError
from pipeline.report.document import Report
from pipeline.report.pricing.prices import Prices, load_table, parse_prices
from pipeline.storage.storage import Storage
from tests.pipeline.report.made import measure, row, write

events = st.lists(
    st.tuples(
        st.integers(0, 5),  # sample
        st.sampled_from(["ok", "failed"]),
        st.sampled_from(["r1", "r2", "r3"]),
        st.floats(0.5, 50),
        st.floats(0, 20),
        st.sampled_from([1, 4]),
        st.booleans(),  # control
        st.booleans(),  # next part
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(events)
def test_every_second_and_row_is_counted_once(made: list[tuple[Any, ...]]) -> None:
    parts: list[list[dict[str, Any]]] = [[]]
    up: dict[tuple[str, int], float] = {}
    for number, status, run, wall, wasted, group, control, cut in made:
        busy = wasted + (wall if status == "ok" else 0.0)
        key = (run, group)  # a process belongs to one run and has one size
        up[key] = up.get(key, 7.0) + busy + 0.25
        parts[-1].append(
            row(
                number,
                status=status,
                run=run,
                wall=wall,
                wasted=wasted,
                group=group,
                worker=f"{run}/{group}",
                up=up[key],
                control=control,
            )
        )
        if cut:
            parts.append([])
    with tempfile.TemporaryDirectory() as folder:
        storage = write(Path(folder), *[part for part in parts if part])
        report = measure(storage, Prices({"": 3.6}))
    totals, spent = report.totals, report.device_s
    counted = totals.ok + totals.failed + totals.controls + totals.controls_failed
    assert counted + totals.rejected == totals.samples
    assert totals.samples + totals.superseded == totals.rows == len(made)
    assert sum(run.rows for run in report.runs) == totals.rows
    whole = sum(seconds * group for (_, group), seconds in up.items())
    assert spent.total == pytest.approx(whole)
    parts_sum = (
        spent.clips
        + spent.controls
        + spent.failed_attempts
        + spent.regenerated
        + spent.loading
        + spent.idle
    )
    assert parts_sum == pytest.approx(spent.total)
    assert report.dollars is not None
    assert report.dollars.total == pytest.approx(whole / 1000)  # 3.6 dollars an hour
    assert sum(lap.device_s for lap in report.time if not lap.beside) == pytest.approx(whole)
    assert sum(bar.clips for bar in report.nfe) == totals.ok
    assert sum(s.clips for s in report.cost_by_policy) == totals.ok
    assert sum(s.clips for s in report.cost_by_prompt) == totals.ok
    assert sum(cause.samples for cause in report.failures) == totals.failed + totals.controls_failed
    assert sum(b.clips for b in report.throughput) == totals.ok + totals.controls


SQL = """
with ranked as (
    select *, row_number() over (
        partition by sample_id order by status != 'ok', filename, file_row_number
    ) as place
    from read_parquet(?, filename = true, file_row_number = true)
), final as (select * from ranked where place = 1),
clips as (select * from final where status = 'ok' and control_of = ''),
pairs as (
    select c.wall_s as control_s, s.wall_s as sample_s, c.quality.psnr_db as psnr
    from final c join clips s on s.sample_id = c.control_of
    where c.status = 'ok' and c.run_id = s.run_id
)
select
    (select count(*) from ranked) as rows,
    (select count(*) from clips) as ok,
    (select count(*) from final where status = 'failed' and control_of = '') as failed,
    (select count(*) from ranked where place > 1) as superseded,
    (select sum(gpu_s) from clips) as clips_s,
    (select sum(gpu_s) from final where status = 'ok' and control_of != '') as controls_s,
    (select sum(times.wasted_s * group_size) from ranked) as wasted_s,
    (select sum(load) from (
        select max(worker.load_s) * max(group_size) as load from ranked group by worker.id
    )) as load_s,
    (select sum(cache.nfe) from clips) as nfe,
    (select sum(cache.reused) / sum(cache.nfe + cache.reused) from clips) as reuse,
    (select sum(duration_s) from clips) as video_s,
    (select count(*) from pairs) as pairs,
    (select sum(control_s) / sum(sample_s) from pairs) as speedup,
    (select avg(psnr) from pairs) as psnr
"""


def test_duckdb_gets_the_same_numbers(tmp_path: Path) -> None:
    rows = [row(n, wall=1 + n / 10, wasted=n % 3, up=200.0, nfe=3 + n % 2) for n in range(20)]
    rows += [row(n, control=True, wall=3.0 + n, psnr=30.0 + n, up=199.0) for n in range(0, 20, 2)]
    again = [row(n, run="r2", worker="w2", status="failed", wasted=2.0) for n in range(18, 25)]
    later = [row(24, run="r3", worker="w3", group=4, up=50.0), row(3, run="r3", worker="w3")]
    early = row(90, worker="w1", up=7.5, wall=0.5)  # the first call of its process
    storage = write(tmp_path, [early, *rows], again, later)
    report = measure(storage, Prices())
    parts = sorted(str(path) for path in (tmp_path / "data").glob("*.parquet"))
    cursor = duckdb.sql(SQL.replace("?", repr(parts)))
    found = dict(zip(cursor.columns, cursor.fetchall()[0], strict=True))
    totals, spent, speedup = report.totals, report.device_s, report.speedup
    mine = {
        "rows": totals.rows,
        "ok": totals.ok,
        "failed": totals.failed,
        "superseded": totals.superseded,
        "clips_s": spent.clips,
        "controls_s": spent.controls,
        "wasted_s": spent.failed_attempts,
        "load_s": spent.loading,
        "nfe": totals.nfe,
        "reuse": report.headline.reuse_ratio,
        "video_s": totals.video_s,
        "pairs": speedup.pairs,
        "speedup": speedup.ratio.value if speedup.ratio else None,
        "psnr": sum(q.psnr_db.value * q.pairs for q in report.quality) / speedup.pairs,
    }
    assert mine == pytest.approx(found)
    assert report.dollars is None  # no price: no money
    assert any("No price" in note for note in report.notes)


def test_pairs_that_cannot_be_compared_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [
        row(0, up=8.0, worker="w1"),
        row(0, control=True, up=11.0, wall=3.0, psnr=40.0, worker="w1"),
        row(1, up=12.0, worker="w1"),
        row(1, control=True, run="r2", up=90.0, wall=3.0, worker="w1"),
        row(2, control=True, up=95.0, wall=3.0),
        row(3, up=20.0),
        row(3, control=True, up=24.0, wall=4.0, psnr=50.0),
    ]
    report = measure(write(tmp_path, rows), Prices())
    speedup = report.speedup
    assert speedup.pairs == 1
    assert speedup.left_out == {
        "of two runs": 1,
        "in the first call of a process (warm-up)": 1,
        "without their clip": 1,
    }
    assert speedup.ratio is not None
    assert speedup.ratio.value == pytest.approx(4.0)
    assert "only 1 pair" in speedup.note
    (quality,) = report.quality
    assert (quality.pairs, quality.psnr_worst) == (2, 40.0)
    assert quality.psnr_db.value == pytest.approx(45.0)
    budgets = (0.2, 0.3, 0.6, 1.0)
    what_if = measure(Storage(str(tmp_path)), Prices(), budgets=budgets).what_if
    # 4 evaluations took 1 s and 10 took 4 s: by that line 3 of 10 would win more than 10 / 3.
    assert [entry.nfe for entry in what_if] == [4, 10]
    assert [entry.gpu_s_per_clip for entry in what_if] == pytest.approx([1.0, 4.0])
    assert [entry.psnr_db for entry in what_if] == [45.0, 100.0]
    plain = [row(9, up=1.0), row(3, up=20.0), row(3, control=True, up=24.0, wall=2.2)]
    what_if = measure(write(tmp_path / "plain", plain), Prices(), budgets=budgets).what_if
    assert [entry.nfe for entry in what_if] == [2, 3, 6, 10]
    assert [entry.gpu_s_per_clip for entry in what_if] == pytest.approx([0.6, 0.8, 1.4, 2.2])
    assert all(entry.speedup <= 10 / entry.nfe for entry in what_if)
    quick = [row(9, up=1.0), row(3, up=20.0), row(3, control=True, up=24.0, wall=0.5)]
    assert measure(write(tmp_path / "quick", quick), Prices()).what_if == []  # no time was saved
    none = measure(write(tmp_path / "none", [row(1)]), Prices())
    assert (none.speedup.pairs, none.speedup.ratio, none.quality) == (0, None, [])
    assert "--control-fraction" in none.speedup.note


def test_prices_by_run_label_device_and_table(tmp_path: Path) -> None:
    rows = [
        row(0, run="r1", wall=3600.0, worker="a", up=3607.0),
        row(1, run="r2", wall=3600.0, worker="b", up=3607.0, labels="market=spot,zone=a"),
        row(2, run="r3", wall=3600.0, worker="c", up=3607.0),
    ]
    storage = write(tmp_path, rows)
    given = parse_prices(["2", "run:r1=5", "label:market=spot=1"])
    report = measure(storage, Prices(given))
    assert report.dollars is not None
    assert report.dollars.clips == pytest.approx(5 + 1 + 2)
    assert report.dollars.loading == pytest.approx(8 * 7 / 3600)
    config = {"run_id": "r3", "config": {"gpu_price_per_hour": 9.0}, "input": {"pending": 4}}
    storage.put_bytes("runs/r3.json", json.dumps(config).encode())
    of_run = measure(storage, Prices(parse_prices(["device:h100=1"]))).dollars
    assert of_run is not None
    assert of_run.clips == pytest.approx(3.0)
    mixed = measure(storage, Prices(table=load_table("gcp"), market="spot"))
    sources = {price.source.split()[0] for price in mixed.prices}
    assert sources == {"gcp", "gpu_price_per_hour"}
    assert [p.clips for p in measure(storage, Prices(), more_clips=10).projections] == [3, 10]


@pytest.mark.parametrize("text", ["", "x", "run:=1", "label:market=1", "node:a=1", "-1", "nan"])
def test_a_price_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="should be DOLLARS"):
        parse_prices([text])


def test_the_table_names_a_source_and_date_for_every_price() -> None:
    clouds = ("aws", "azure", "gcp", "runpod", "lambda", "hyperstack")
    lines = [line for cloud in clouds for line in load_table(cloud)]
    assert all(line.source.startswith("https://") and line.date.year >= 2026 for line in lines)
    assert all(line.on_demand or line.spot for line in lines)
    with pytest.raises(UserError, match="knows aws"):
        load_table("nowhere")


@pytest.mark.slow
def test_the_document_has_its_documented_schema(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, table in enumerate(synthetic_parts(400, 150)):
        pq.write_table(table, tmp_path / f"data/part-x-{number}.parquet")
    report = measure(Storage(str(tmp_path)), Prices(table=load_table("aws")))
    value = json.loads(report.model_dump_json())
    jsonschema.validate(value, Report.model_json_schema())
    assert Report.model_validate(value) == report
    assert value["format"] == "sencache-report/1"


def test_rows_of_an_older_version_and_rejected_rows_are_read(tmp_path: Path) -> None:
    old = to_table([row(0), rejected_row("0" * 20, "c", "f:2", "demo", "r1", "bad")])
    keep = [name for name in old.column_names if name not in ("worker", "times", "quality")]
    (tmp_path / "data").mkdir()
    pq.write_table(old.select(keep), tmp_path / "data/part-x-0.parquet")
    report = measure(Storage(str(tmp_path)), Prices())
    assert (report.totals.ok, report.totals.rejected) == (1, 1)
    assert report.device_s.total == report.device_s.clips == 1.0
    assert any("did not record processes" in note for note in report.notes)


def test_no_rows_and_foreign_parts_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no output rows"):
        measure(Storage(str(tmp_path)), Prices())
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "data/part-x-0.parquet")
    with pytest.raises(StorageError, match=r"not written by this pipeline: .*; move it away"):
        measure(Storage(str(tmp_path)), Prices())
