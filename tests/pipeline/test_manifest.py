import json
import re
import uuid

from pipeline.manifest import Manifest, new_run_id
from pipeline.storage import Storage


def test_a_manifest_says_running_until_it_ends() -> None:
    storage = Storage(f"memory://manifest-{uuid.uuid4().hex}")
    manifest = Manifest("r1", {"model": "demo"}, {"read": 3})
    manifest.write(storage)
    first = json.loads(storage.read_bytes("runs/r1.json"))
    assert (first["state"], first["ended_at"]) == ("running", "")
    manifest.end(storage, "done", {"ok": 3})
    last = json.loads(storage.read_bytes("runs/r1.json"))
    assert (last["state"], last["result"], last["config"]) == ("done", {"ok": 3}, {"model": "demo"})
    assert last["ended_at"] >= last["started_at"] == first["started_at"]
    assert last["versions"]["torch"]


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id) for run_id in ids)
    assert [run_id[:16] for run_id in ids] == sorted(run_id[:16] for run_id in ids)
