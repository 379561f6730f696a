"""When a run ends because its text encoders have no room, with simulated answers of Ray."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import ray_compat, text_stage
from pipeline.cluster.text_stage import LOOK_EVERY_S, TextWatch, all_wait
from pipeline.errors import UserError

ENCODERS, GROUPS = "MapWorker(MapBatches(TextActor))", "MapWorker(MapBatches(GroupActor))"


DAEMON, WORKER = 7000, 10_000
NODES = [{"NodeID": "ab", "NodeManagerPort": DAEMON}]


def actor(state: str, port: int = 0, kind: str = ENCODERS) -> dict[str, Any]:
    return {"ActorClassName": kind, "State": state, "Address": {"NodeID": "ab", "Port": port}}


@pytest.mark.parametrize(
    ("actors", "expected"),
    [
        ([], False),
        ([actor("DEAD")], False),  # the stage is over
        ([actor("RESTARTING")], True),
        ([actor("RESTARTING", DAEMON)], True),  # the node that was asked has no room
        ([actor("PENDING_CREATION"), actor("RESTARTING"), actor("DEAD")], True),
        ([actor("RESTARTING", WORKER)], False),  # it loads
        ([actor("RESTARTING"), actor("ALIVE", WORKER)], False),
        ([actor("RESTARTING"), actor("ALIVE", WORKER, GROUPS)], True),
    ],
)
def test_encoders_wait_if_none_has_a_place(actors: list[dict[str, Any]], expected: bool) -> None:
    assert all_wait(actors, NODES) is expected


class Pass:
    """An execution of Ray Data whose steps follow a simulated clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wait_s: float) -> None:
        self.now, self.waiting, self.calls = 0.0, True, 1
        monkeypatch.setattr(text_stage, "all_wait", lambda actors, nodes: self.waiting)
        monkeypatch.setattr(ray_compat, "actors_of_this_job", list)
        monkeypatch.setattr(text_stage.ray, "nodes", list)
        self._watch = TextWatch("2 CPUs", wait_s, "GroupActor", lambda: self.now)
        operators = [
            SimpleNamespace(name="MapBatches(TextActor)", num_active_tasks=lambda: 1),
            SimpleNamespace(name="MapBatches(GroupActor)", num_active_tasks=lambda: self.calls),
        ]
        self._executor: Any = SimpleNamespace(_topology=operators)

    def go_on(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_EVERY_S)):
            self.now += LOOK_EVERY_S
            self._watch.on_execution_step(self._executor)


def test_a_pass_ends_when_nothing_is_under_way_and_the_wait_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Pass(monkeypatch, wait_s=60)
    with caplog.at_level(logging.WARNING):
        made.go_on(100)  # a clip is being made all the while
    (said,) = caplog.messages
    assert "room for a text encoder (2 CPUs) beside the groups" in said
    assert "the run waits 1 min 00 s for one that joins" in said
    made.calls = 0
    with pytest.raises(UserError, match="run the same command again, which plans fewer groups"):
        made.go_on(LOOK_EVERY_S)


def test_an_encoder_that_finds_a_place_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Pass(monkeypatch, wait_s=60)
    made.calls = 0
    made.go_on(LOOK_EVERY_S)
    for _ in range(3):
        made.waiting = False
        made.go_on(LOOK_EVERY_S)
        assert not caplog.messages  # a restart that takes a moment
        made.waiting = True
        made.go_on(LOOK_EVERY_S)
    made.go_on(56)
    assert len(caplog.messages) == 1
    with pytest.raises(UserError, match="for 1 min 00 s no node"):
        made.go_on(LOOK_EVERY_S)
