"""Samples that end a group of real ranks: what they cost, and what they leave."""

from __future__ import annotations

import uuid

import pytest

from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.ledger import Ledger
from pipeline.engine.protocol import EngineDiedError
from pipeline.ranks.group_engine import GroupEngine
from pipeline.ranks.processes import GroupSpec
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.pipeline.ranks import group_workers

ATTEMPTS = 2


def request(prompt: str) -> SampleRequest:
    return SampleRequest(prompt, "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0)


@pytest.mark.slow
def test_a_poisoned_request_costs_its_attempts_and_no_other_sample() -> None:
    storage = Storage(f"memory://poison-{uuid.uuid4().hex}")
    ledger = Ledger(storage, "run", max_attempts=ATTEMPTS)
    batch = [request(prompt) for prompt in ("a", "poison", "refused", "b")]
    deaths: list[str] = []
    while True:
        # As Ray does: a process that died is started anew and gets the same requests again.
        engine = GroupEngine(group_workers.poisonable, GroupSpec(2))
        runner = BatchRunner(engine, storage, ledger, "run", batch_rows=4)
        try:
            rows = runner.process(batch)
        except EngineDiedError as error:
            deaths.append(str(error))
            continue
        finally:
            runner.close()
        break
    assert len(deaths) == ATTEMPTS  # the first of them together with its neighbours
    assert all("rank 1 was killed by SIGKILL" in death for death in deaths)
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok"]
    assert "killed by SIGKILL" in rows[1]["error_message"]
    assert "refused by all" in rows[2]["error_message"]
    assert rows[1]["attempts"] == ATTEMPTS


@pytest.mark.slow
def test_a_group_outlives_what_all_its_ranks_refuse() -> None:
    engine = GroupEngine(group_workers.poisonable, GroupSpec(2))
    try:
        for _ in range(2):
            with pytest.raises(Exception, match="refused by all"):
                engine.generate([request("refused")])
        assert len(engine.generate([request("a")])) == 1
    finally:
        engine.close()
