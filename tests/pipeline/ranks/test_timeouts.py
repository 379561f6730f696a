from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ranks.timeouts import AdaptiveTimeout


def test_a_mark_that_nothing_is_known_of_may_take_as_long_as_loading() -> None:
    timeout = AdaptiveTimeout(first_s=100.0, floor_s=30.0)
    timeout.observe("step", 1.0, 1.0)
    assert timeout.allowed_s("decoding", 1.0) == 100.0


@given(st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0.1, 1e3)), min_size=1), st.floats(1, 9))
def test_what_was_seen_before_is_always_allowed(
    seen: list[tuple[float, float]], factor: float
) -> None:
    timeout = AdaptiveTimeout(factor=factor, floor_s=0.0)
    for seconds, work in seen:
        timeout.observe("step", seconds, work)
    assert all(
        timeout.allowed_s("step", work) >= seconds * factor * (1 - 1e-9) for seconds, work in seen
    )


def test_it_grows_with_the_work_and_never_falls_below_the_floor() -> None:
    timeout = AdaptiveTimeout(factor=5.0, floor_s=2.0)
    timeout.observe("step", 0.1, 1.0)
    assert timeout.allowed_s("step", 1.0) == 2.0
    assert timeout.allowed_s("step", 100.0) == 50.0


def test_by_default_a_rank_may_compile_or_decode_in_silence_for_minutes() -> None:
    timeout = AdaptiveTimeout()
    timeout.observe("step", 0.5, 1.0)
    assert timeout.allowed_s("step", 1.0) == 300.0
    assert timeout.allowed_s("decoding", 1.0) == 3600.0
