"""Rows are found by their ids in whatever part they are; of several, the one that counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.committed import Ids
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import Provenance, SampleOutcome, Status, make_row, to_table
from pipeline.processing.stored_rows import StoredRows
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.scoring.stored_scores import write_scores
from pipeline.storage.storage import Storage
from tests.property_examples import examples

REQUEST = SampleRequest(
    "p", "", "demo", "r", "S/3", 4, 4.0, 16, 16, 3, 8, 0, 0, CacheIdentity("none", "{}", "")
)

PARTS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["ok", "failed"])), min_size=1, max_size=6
    ),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(parts=PARTS, wanted=st.sets(st.integers(0, 8)))
def test_the_row_that_counts_of_each_wanted_sample_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[list[tuple[int, Status]]],
    wanted: set[int],
) -> None:
    folder: Path = tmp_path_factory.mktemp("prefix")
    requests = [replace(REQUEST, seed=seed) for seed in range(9)]
    best: dict[int, tuple[str, str]] = {}
    for number, part in enumerate(parts):
        rows = []
        for place, (seed, status) in enumerate(part):
            run_id = f"r{number}-{place}"
            rows.append(make_row(requests[seed], Provenance(run_id), SampleOutcome(status)))
            if seed not in best or (status, best[seed][0]) == ("ok", "failed"):
                best[seed] = (status, run_id)
        writer = PartWriter(Storage(str(folder)), f"{number}", part_rows=9, part_seconds=1e9)
        writer.add(to_table(rows))
        writer.flush()
    stored = StoredRows(Storage(str(folder)))
    assert len(stored) == len(best)
    found = stored.rows([bytes.fromhex(requests[seed].sample_id) for seed in sorted(wanted)])
    assert {row["seed"]: (row["status"], row["run_id"]) for row in found.to_pylist()} == {
        seed: row for seed, row in best.items() if seed in wanted
    }
    assert found.num_rows == len(wanted & best.keys())


def test_rows_come_with_the_scores_that_were_given_later(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    row = make_row(REQUEST, Provenance("r"), SampleOutcome("ok")) | {"media_sha256": "a" * 64}
    writer = PartWriter(storage, "r", part_rows=9, part_seconds=1e9)
    writer.add(to_table([row]))
    writer.flush()
    given = {
        "sample_id": REQUEST.sample_id,
        "media_sha256": "a" * 64,
        "scored_at": datetime.now(UTC),
    }
    given |= {"scores": [{"name": "motion", "value": 0.5}], "scorers": ["basic@1"]}
    given |= {"scores_missing": "", "score_s": 0.1, "perceptual_hash": ""}
    write_scores(storage, "later", [given])
    (found,) = StoredRows(storage).rows([bytes.fromhex(REQUEST.sample_id)]).to_pylist()
    assert found["scores"] == [{"name": "motion", "value": 0.5}]
    assert found["scorers"] == ["basic@1"]


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 7)))
def test_ids_that_share_their_beginning_have_places_of_their_own(
    held: list[int], wanted: list[int]
) -> None:
    def ids(numbers: list[int]) -> Ids:
        return Ids.from_bytes(b"".join(bytes([n % 2] * 8 + [0, n]) for n in numbers))

    there = sorted(set(held), key=lambda n: (n % 2, n))
    places = ids(there).sorted().positions(ids(wanted)).tolist()
    assert places == [there.index(n) if n in there else -1 for n in wanted]
