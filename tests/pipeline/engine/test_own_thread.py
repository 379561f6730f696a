import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.engine.own_thread import OwnThreadEngine
from pipeline.engine.protocol import Clip, EngineDiedError
from pipeline.requests.sample_request import SampleRequest
from tests.pipeline.attempts.runners import FakeEngine, requests


class Located(FakeEngine):
    """Tells on which threads it was used."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = [threading.get_ident()]
        self.closes = 0

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        self.threads.append(threading.get_ident())
        return super().generate(requests)

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closes += 1


def test_one_thread_loads_calls_and_closes_whoever_asks() -> None:
    made: list[Located] = []

    def make() -> Located:
        made.append(Located())
        return made[0]

    engine = OwnThreadEngine(make)
    with ThreadPoolExecutor(2) as callers:
        clips = list(callers.map(engine.generate, (requests("a"), requests("b", "c"))))
    engine.close()

    assert [len(each) for each in clips] == [1, 2]
    assert (engine.device_name, engine.group_size) == ("fake", 2)
    assert len(made[0].threads) == 4
    (own,) = set(made[0].threads)
    assert own != threading.get_ident()
    assert not any(thread.ident == own for thread in threading.enumerate())


def test_an_engine_that_cannot_be_loaded_leaves_no_thread() -> None:
    before = threading.active_count()

    def refuse() -> Located:
        raise ValueError("no such weights")

    with pytest.raises(ValueError, match="no such weights"):
        OwnThreadEngine(refuse)
    assert threading.active_count() == before


def test_what_a_call_raises_reaches_its_caller_and_the_next_call_is_served() -> None:
    def fault(batch: Sequence[SampleRequest]) -> None:
        if batch[0].prompt == "bad":
            raise ValueError("a bad one")

    engine = OwnThreadEngine(lambda: FakeEngine(fault))
    with pytest.raises(ValueError, match="a bad one"):
        engine.generate(requests("bad"))
    assert len(engine.generate(requests("good"))) == 1
    engine.close()


def test_closing_twice_is_harmless_and_both_reach_the_engine() -> None:
    made = Located()
    engine = OwnThreadEngine(lambda: made)
    engine.close()
    engine.close()
    assert made.closes == 2


def test_a_closed_engine_says_so_also_if_closing_it_failed() -> None:
    class Sticky(FakeEngine):
        def close(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine = OwnThreadEngine(Sticky)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.close()
    with pytest.raises(EngineDiedError, match="closed"):
        engine.generate(requests("a"))
