"""How a group's process ends, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.cluster import nodes
from pipeline.cluster.group_actor import REQUEST_COLUMN, GroupActor
from pipeline.engine.protocol import BadNodeError, EngineDiedError
from pipeline.errors import UserError
from pipeline.process import EXIT_ENGINE_DIED
from pipeline.requests.controls import pack
from pipeline.scoring.panel import ScorerPanel
from tests.pipeline.attempts.runners import requests

TASK = pa.table({REQUEST_COLUMN: [pack(requests("a"))]})


class Ended(BaseException):
    """The process has ended."""


_made: list[Any] = []


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    found: list[int] = []

    def end(code: int) -> None:
        found.append(code)
        raise Ended

    monkeypatch.setattr("os._exit", end)
    yield found
    # Tracebacks keep the actors alive. The garbage collector would end them at any moment later,
    # such as in the middle of a thread's start, where no other thread can start.
    while _made:
        del _made.pop()._runner


def actor(error: Exception, close: Callable[[], None] = lambda: None) -> Any:
    def process(_: Any) -> Any:
        raise error

    made: Any = GroupActor.__new__(GroupActor)
    made.said = []
    made._runner = SimpleNamespace(process=process, close=close)
    made._first = made._rank = None
    made._panel = ScorerPanel(())
    made._ledger = SimpleNamespace(complain=made.said.append)
    _made.append(made)
    return made


def raise_sticky() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("close", [lambda: None, raise_sticky])
def test_a_dead_engine_ends_its_process_whatever_its_close_does(
    codes: list[int], close: Callable[[], None]
) -> None:
    with pytest.raises(Ended):
        actor(EngineDiedError("lost"), close)(TASK)
    assert codes == [EXIT_ENGINE_DIED]


@pytest.mark.parametrize("answer", [True, ConnectionError("GCS is gone")])
def test_a_bad_node_ends_its_process_also_where_ray_does_not_answer(
    codes: list[int], monkeypatch: pytest.MonkeyPatch, answer: bool | Exception
) -> None:
    def retire(_: str) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(nodes, "retire", retire)
    with pytest.raises(Ended):
        actor(BadNodeError("node n kills"))(TASK)
    assert codes == [EXIT_ENGINE_DIED]


def test_the_only_node_does_not_leave_but_the_run_ends(
    codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "retire", lambda _: False)
    worker = actor(BadNodeError("node n kills whatever runs on it"))
    with pytest.raises(UserError, match="the cluster has no other"):
        worker(TASK)
    assert (codes, len(worker.said)) == ([], 1)
