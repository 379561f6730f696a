import time

from pipeline.dataset.schema import SCHEMA
from pipeline.process import Worker


def test_a_worker_says_who_it_is_and_how_long_it_took() -> None:
    began = time.monotonic() - 5
    labels = {"market": "spot", "ray.io/node-id": "abc", "gpu": "h100"}
    one, two = Worker.loaded(began, labels), Worker.loaded(began)
    assert (one.labels, two.labels) == ("gpu=h100,market=spot", "")
    assert one.id != two.id
    row = one.to_row()
    assert 5 <= row["load_s"] <= row["up_s"]
    assert list(row) == SCHEMA.field("worker").type.names
