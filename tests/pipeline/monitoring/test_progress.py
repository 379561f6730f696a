import io
from dataclasses import replace

import pyarrow as pa
import pytest
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.schema import (
    NO_CACHE,
    Provenance,
    SampleOutcome,
    make_row,
    rejected_row,
    to_table,
)
from pipeline.monitoring.progress import RunProgress, duration
from pipeline.monitoring.result import say_result
from pipeline.monitoring.totals import RunTotals
from pipeline.requests.sample_request import SampleRequest

REQUEST = SampleRequest("p", "", "demo", "r", "S/3", 50, 4.0, 64, 64, 17, 8, 32, 0)


def table(ok: int, failed: int = 0, wall_s: float = 2.0) -> pa.Table:
    cache = dict(NO_CACHE) | {"nfe": 20, "reused": 30}
    rows = [
        make_row(REQUEST, Provenance("r", wall_s=wall_s), SampleOutcome("ok", cache=cache))
    ] * ok
    rows += [make_row(REQUEST, Provenance("r"), SampleOutcome("failed", "E", "m"))] * failed
    return to_table(rows)


def test_totals_sum_rows() -> None:
    totals = RunTotals()
    totals.add(table(3, failed=1))
    totals.add(to_table([rejected_row("x", "", "k", "demo", "r", "m")]))
    assert (totals.ok, totals.failed, totals.rejected, totals.made) == (3, 1, 1, 4)
    assert totals.gpu_s == pytest.approx(6.0)
    assert totals.video_s == pytest.approx(3 * 17 / 8)
    assert totals.reuse_ratio == pytest.approx(0.6)


def test_a_signal_amid_counting_leaves_the_totals_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    totals = RunTotals()
    totals.add(table(2))
    before = replace(totals)

    def interrupted(column: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.monitoring.totals._sum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        totals.add(table(1, failed=1))
    assert totals == before


def test_eta_leaves_out_the_time_before_the_first_rows() -> None:
    now = [0.0]
    totals = RunTotals()
    progress = RunProgress(10, totals, Console(file=io.StringIO()), clock=lambda: now[0])
    assert progress.eta_s() is None
    now[0] = 100.0  # loading
    totals.add(table(2))
    progress.update()
    assert progress.eta_s() == pytest.approx(8 * 100 / 2)
    now[0] = 110.0
    totals.add(table(2))
    progress.update()
    assert progress.eta_s() == pytest.approx(6 * 10 / 2)


def test_the_first_eta_leaves_out_what_the_process_took_to_load() -> None:
    now = [0.0]
    totals = RunTotals()
    progress = RunProgress(10, totals, Console(file=io.StringIO()), clock=lambda: now[0])
    now[0] = 100.0
    made = rows_of("a", 2)  # 2 s after the process began, 1 s of which it loaded
    totals.add(made)
    progress.update(made)
    assert progress.eta_s() == pytest.approx(8 * 1 / 2)
    now[0] = 102.0
    assert progress.eta_s() == pytest.approx(8 * 3 / 2)


def test_what_rows_lack_is_said_once_for_all_processes() -> None:
    out = io.StringIO()
    progress = RunProgress(9, RunTotals(), Console(file=out, width=200))
    lacking = {"psnr_db": 40.0, "missing": "no LPIPS: not installed"}
    for worker, quality in (("a", None), ("a", lacking), ("b", lacking), ("c", lacking)):
        rows = [row | {"quality": quality} for row in rows_of(worker, 2).to_pylist()]
        progress.update(to_table(rows))
    assert out.getvalue() == "no LPIPS: not installed; controls are compared without it\n"


def test_money_and_line() -> None:
    totals = RunTotals()
    totals.add(table(2, failed=1, wall_s=1800))
    priced = RunProgress(4, totals, Console(file=io.StringIO()), gpu_price_per_hour=2.5)
    assert priced.money(priced.snapshot()) == "$2.50 spent of $3.33"
    assert "1 failed" in priced.line()
    assert "3/4 clips" in priced.line()
    unpriced = RunProgress(4, totals, Console(file=io.StringIO()))
    assert unpriced.money(unpriced.snapshot()) == "1 h 00 min of device time"


def test_job_logs_get_plain_lines_not_a_redrawn_screen() -> None:
    now = [0.0]
    out = io.StringIO()
    totals = RunTotals()
    with RunProgress(4, totals, Console(file=out, width=200), clock=lambda: now[0]) as progress:
        for _ in range(4):
            now[0] += 6.0
            totals.add(table(1))
            progress.update()
    first, *lines = out.getvalue().splitlines()
    assert first == "loading the model, then 4 clips"
    assert [line.split(" clips")[0] for line in lines] == ["2/4", "4/4", "4/4"]
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (18_420, "5 h 07 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def rows_of(worker: str, count: int, control_of: str = "") -> pa.Table:
    cache = dict(NO_CACHE) | {"nfe": 20, "reused": 30}
    at = {"id": worker, "node": f"node-{worker}", "labels": "", "load_s": 1.0, "up_s": 2.0}
    times = {"text_s": 0.0, "denoise_s": 2.0, "decode_s": 0.0, "wasted_s": 1.5}
    provenance = Provenance("r", group_size=2, wall_s=2.0, worker=at, times=times)
    row = make_row(REQUEST, provenance, SampleOutcome("ok", cache=cache)) | {
        "control_of": control_of
    }
    return to_table([row] * count)


def test_a_run_of_controls_alone_does_not_say_that_nothing_was_reused() -> None:
    totals, text = RunTotals(), io.StringIO()
    progress = RunProgress(2, totals, Console(file=text), gpu_price_per_hour=None, groups=1)
    assert "reused" not in progress.line()
    totals.add(rows_of("a", 2, control_of="x"))
    assert " · controls only, which reuse no steps · " in progress.line()
    say_result(Console(file=text, width=200), RunConfig(prompts="p", output="o"), totals, False)
    assert "reused       nothing: controls compute every step" in text.getvalue()
    totals.add(rows_of("a", 2))
    assert " · reused 60% of steps · " in progress.line()


def test_a_snapshot_tells_of_groups_waste_and_what_the_run_will_cost() -> None:
    now = [0.0]
    totals = RunTotals()
    progress = RunProgress(
        8,
        totals,
        Console(file=io.StringIO()),
        gpu_price_per_hour=3600.0,
        groups=3,
        clock=lambda: now[0],
    )
    assert "groups: 3 waiting for a first clip" in progress.line()
    for seconds, worker in ((10.0, "a"), (20.0, "a"), (30.0, "b"), (40.0, "b")):
        now[0] = seconds
        made = rows_of(worker, 1, control_of="x" if seconds == 40.0 else "")
        totals.add(made)
        progress.update(made)
    at = progress.snapshot()
    assert (at.made, at.total, at.waiting, totals.controls) == (4, 8, 1, 1)
    assert (totals.steps, at.reuse_ratio) == (150, pytest.approx(0.6))  # without the control
    assert at.gpu_s == pytest.approx(4 * 2 * (2.0 + 1.5))
    assert (at.dollars, at.dollars_projected) == (pytest.approx(28.0), pytest.approx(56.0))
    assert {name: group.rows for name, group in at.groups.items()} == {"a": 2, "b": 2}
    now[0] = 85.0
    assert [group.state(now[0]) for group in at.groups.values()] == ["quiet", "working"]
    assert "groups: 1 quiet, 1 working, 1 waiting for a first clip" in progress.line()
    progress.room_for(2)  # a node is lost; one of the two starts again, in another process
    progress.update(rows_of("c", 1))
    assert set(progress.snapshot().groups) == {"b", "c"}
    assert "groups: 2 working" in progress.line()
