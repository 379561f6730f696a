"""The compact set against Python's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.committed import Ids
from pipeline.streaming import id_set
from pipeline.streaming.id_set import IdSet
from tests.property_examples import examples

# Few different ends and beginnings, so that ids meet in one place; zeros among them.
IDS = st.builds(
    lambda high, low: high.to_bytes(8) + low.to_bytes(2),
    st.integers(0, 5) | st.integers(0, 2**64 - 1),
    st.integers(0, 3),
)


@given(st.lists(st.lists(IDS, max_size=12), max_size=6), st.lists(IDS, max_size=12))
@settings(max_examples=examples(200), deadline=None)
def test_it_holds_what_a_set_holds(batches: list[list[bytes]], asked: list[bytes]) -> None:
    ids, oracle = IdSet(), set[bytes]()
    for batch in batches:
        before = ids.find(Ids.from_bytes(b"".join(batch))).tolist()
        assert before == [each in oracle for each in batch]
        ids.add(Ids.from_bytes(b"".join(set(batch))))
        oracle.update(batch)
        assert len(ids) == len(oracle)
    found = ids.find(Ids.from_bytes(b"".join(asked))).tolist()
    assert found == [each in oracle for each in asked]


def test_it_grows_and_stays_small() -> None:
    count = 4 * id_set.FIRST_PLACES
    draw = np.random.default_rng(7)
    packed = draw.bytes(10 * count)
    ids = IdSet()
    for start in range(0, len(packed), 5000):
        ids.add(Ids.from_bytes(packed[start : start + 5000]))
    everything = Ids.from_bytes(packed)
    assert len(ids) == len({packed[i : i + 10] for i in range(0, len(packed), 10)})
    assert ids.find(everything).all()
    assert not ids.find(Ids(everything.high, everything.low ^ np.uint16(1))).any()
    assert (ids._high.nbytes + ids._low.nbytes) / count <= 10 / id_set.FULLEST * 2
