"""The largest clip by a few columns, against reading all rows."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset.committed import Committed
from pipeline.prompts.reader import distinct_values, read_source
from pipeline.requests import intake as intake_module
from pipeline.requests.columns import ColumnUse
from pipeline.requests.intake import Intake
from pipeline.requests.packing import pack_first
from pipeline.streaming import head as head_module
from pipeline.streaming.head import HeadOfInput
from tests.pipeline.requests.test_intake import DEFAULTS
from tests.property_examples import examples

WIDTHS = st.sampled_from([None, 32, 64, 96, 128, 65])
FRAMES = st.sampled_from([None, 5.0, 9.0, 17.0, 6.0, float("nan")])


@given(
    rows=st.lists(st.tuples(WIDTHS, FRAMES), min_size=4, max_size=16),
    explicit=st.sampled_from([frozenset[str](), frozenset({"num_frames"})]),
    height=st.sampled_from([32, 80]),
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_the_columns_tell_the_largest_clip(
    tmp_path: Path, rows: list[tuple[Any, Any]], explicit: frozenset[str], height: int
) -> None:
    folder = tmp_path / f"height={height}"
    folder.mkdir(exist_ok=True)
    for name, some in (("a", rows[:2]), ("b", rows[2:])):
        cells = {
            "prompt": [f"{name} {n}" for n in range(len(some))],
            "width": pa.array([width for width, _ in some], pa.int32()),
            "num_frames": pa.array([frames for _, frames in some], pa.float64()),
        }
        pq.write_table(pa.table(cells), folder / f"{name}.parquet")

    def intake() -> Intake:
        return Intake(
            read_source(str(tmp_path)), DEFAULTS, Committed(), columns=ColumnUse(explicit)
        )

    everything = intake()
    made = list(everything)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake_module, "CHUNK_ROWS", 1)
        patch.setattr(head_module, "HEAD_ROWS", 1)
        part = intake()
        head = HeadOfInput(part, cells=functools.partial(distinct_values, str(tmp_path)))
        pack_first(([[each] for each in some] for some in part.chunks()), head.is_enough)
    assert head.why_whole == ""
    if not made or not part.columns.taken:
        return
    assert head.largest is not None
    assert everything.largest is not None
    assert part.largest is not None
    assert head.largest.pixels == everything.largest.pixels
    assert (head.largest.prompt, head.largest.seed) == (part.largest.prompt, part.largest.seed)


def test_other_files_are_read_to_their_end(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,width\n" + "".join(f"p{n},64\n" for n in range(9)))
    assert distinct_values(str(path), ["width"]) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake_module, "CHUNK_ROWS", 2)
        patch.setattr(head_module, "HEAD_ROWS", 2)
        intake = Intake(read_source(str(path)), DEFAULTS, Committed())
        head = HeadOfInput(intake, cells=functools.partial(distinct_values, str(path)))
        pack_first(([[each] for each in some] for some in intake.chunks()), head.is_enough)
    assert intake.counts.read == 9
    assert head.why_whole.startswith("The whole input is read before the first clip, because its")
