"""Clips that are not good are made again with other seeds, all of a task together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.candidates.redraws import make_with_redraws
from pipeline.dataset.schema import Provenance, Row, SampleOutcome, make_row
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.scorer import ScoredClip

FIRST = SampleRequest("p", "", "demo", "r", "S/3", 50, 4.0, 64, 64, 17, 8, 32, 3, candidates=3)


class Luck:
    """Only names its score: the rows of these tests have it already."""

    name, version, scores = "luck", "1", ("luck",)

    def score(self, clips: Sequence[ScoredClip]) -> list[dict[str, float]]:
        raise AssertionError("nothing is scored here")


PANEL = ScorerPanel([Luck()], "luck > 0.5")


class Maker:
    """Makes rows whose score and status follow from what is given per prompt and try."""

    def __init__(self, **luck: Sequence[float | str | None]) -> None:
        self.luck = luck
        self.calls: list[list[tuple[str, int]]] = []

    def __call__(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        requests = [request for unit in units for request in unit]
        self.calls.append([(request.prompt, request.candidate) for request in requests])
        return [self.row(request) for request in requests]

    def row(self, request: SampleRequest) -> Row:
        value = 0.0 if request.control_of else self.luck[request.prompt][request.candidate - 1]
        status = "failed" if value == "failed" else "ok"
        row = make_row(request, Provenance("r", "cpu"), SampleOutcome(status))
        return row | {"scores": [{"name": "luck", "value": value}] if status == "ok" else []}


def request(prompt: str) -> SampleRequest:
    return dataclasses.replace(FIRST, prompt=prompt)


def made(maker: Maker, *units: list[SampleRequest]) -> list[tuple[str, int]]:
    rows = make_with_redraws(units, maker, PANEL)
    assert all(row["candidates"] == 3 for row in rows if not row["control_of"])
    return [(row["caption"], row["candidate"]) for row in rows]


def test_only_clips_that_are_not_good_are_tried_again_until_they_are() -> None:
    maker = Maker(a=[0.9], b=[0.1, 0.7], c=[0.0, 0.2, 0.4])
    found = made(maker, [request("a")], [request("b")], [request("c")])
    assert found == [("a", 1), ("b", 1), ("c", 1), ("b", 2), ("c", 2), ("c", 3)]
    assert maker.calls == [
        [("a", 1), ("b", 1), ("c", 1)],
        [("b", 2), ("c", 2)],  # together, so that they can share an engine call
        [("c", 3)],
    ]


def test_failed_clips_and_those_without_a_verdict_are_not_tried_again() -> None:
    maker = Maker(a=["failed"], b=[None])
    assert made(maker, [request("a")], [request("b")]) == [("a", 1), ("b", 1)]


def test_a_control_follows_the_first_try_only() -> None:
    maker = Maker(a=[0.1, 0.9])
    first = request("a")
    assert made(maker, [first, control_for(first)]) == [("a", 1), ("a", 1), ("a", 2)]


def test_the_verdict_is_that_of_this_run_not_of_the_row() -> None:
    class Older(Maker):
        def row(self, request: SampleRequest) -> Row:
            return super().row(request) | {"good": True}

    assert made(Older(a=[0.1, 0.9]), [request("a")]) == [("a", 1), ("a", 2)]
