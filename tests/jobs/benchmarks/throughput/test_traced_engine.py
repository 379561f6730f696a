import pytest

from jobs.benchmarks.throughput.traced_engine import TracedCall, steady


def call(engine: int, began: float, ended: float, clips: int = 4) -> TracedCall:
    return TracedCall(began, ended, clips, 0.0, 0.0, engine)


def test_the_first_call_of_one_engine_is_left_out_and_the_rest_counts_whole() -> None:
    warm = steady([call(1, 0, 9), call(1, 9, 11), call(1, 12, 14)], ended=15)
    assert (warm.began, warm.ended, warm.engines, warm.clips) == (9, 15, 1, 8)
    assert warm.clips_per_s == pytest.approx(8 / 6)
    assert warm.busy == pytest.approx(4 / 6)


def test_of_several_engines_the_slowest_to_begin_opens_and_the_first_idle_one_closes() -> None:
    calls = [call(1, 0, 4), call(2, 0, 6), call(1, 4, 8), call(2, 6, 10), call(1, 8, 12)]
    warm = steady(calls)
    assert (warm.began, warm.ended, warm.engines) == (6, 10, 2)
    assert warm.clips == pytest.approx(2 + 4 + 2)  # half of one, one whole, half of the next
    assert warm.busy == pytest.approx(1)


def test_an_engine_that_had_no_second_call_leaves_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="more calls are needed"):
        steady([call(1, 0, 4), call(2, 0, 6), call(1, 4, 8)])
