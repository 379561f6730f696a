"""What commands that need rows say where there are none."""

from __future__ import annotations

import pytest

from pipeline.dataset.manifest import Manifest
from pipeline.errors import UserError
from pipeline.prefix.needed_parts import needed_parts
from pipeline.storage.storage import Storage


def test_a_prefix_whose_parts_are_all_lost_is_told_from_one_without_runs(storage: Storage) -> None:
    with pytest.raises(UserError, match=r"holds no data/part-\*\.parquet; run a job first$"):
        needed_parts(storage)
    manifest = Manifest("20260101T000000Z-abc123", {}, {}, parts=1)
    manifest.end(storage, "done", {})
    with pytest.raises(UserError, match=r"; 1 part of the rows is missing .* run again"):
        needed_parts(storage)
    storage.put_bytes("data/part-20260101T000000Z-abc123-00000.parquet", b"")
    assert len(needed_parts(storage)) == 1
