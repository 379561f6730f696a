from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ranks.pace import Pace


def test_a_mark_that_nothing_is_known_of_may_take_as_long_as_loading() -> None:
    pace = Pace(first_s=100.0)
    pace.saw("step", 1.0, 1.0)
    assert pace.allowed_s("decoding", 1.0) == 100.0


@given(st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0.1, 1e3)), min_size=1), st.floats(1, 9))
def test_what_was_seen_before_is_always_allowed(
    seen: list[tuple[float, float]], factor: float
) -> None:
    pace = Pace(factor=factor, floor_s=0.0)
    for seconds, work in seen:
        pace.saw("step", seconds, work)
    assert all(
        pace.allowed_s("step", work) >= seconds * factor * (1 - 1e-9) for seconds, work in seen
    )


def test_it_grows_with_the_work_and_never_falls_below_the_floor() -> None:
    pace = Pace(factor=5.0, floor_s=2.0)
    pace.saw("step", 0.1, 1.0)
    assert pace.allowed_s("step", 1.0) == 2.0
    assert pace.allowed_s("step", 100.0) == 50.0
