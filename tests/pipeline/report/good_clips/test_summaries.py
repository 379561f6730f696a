"""Numbers about one score, against counting."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.good_clips.summaries import SHARES, summarize

VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, math.nan]), min_size=1, max_size=40)


@given(VALUES)
def test_a_threshold_keeps_what_it_says_and_no_tighter_one_keeps_enough(
    values: list[float],
) -> None:
    known = [value for value in values if not math.isnan(value)]
    found = summarize("s", np.array(values), len(values))
    assert (found.clips, found.missing) == (len(known), len(values) - len(known))
    if not known:
        assert found.mean is None
        assert not found.at_least
        return
    assert sum(found.counts) == len(known)
    assert len(found.edges) == len(found.counts) + 1
    assert (found.deciles[0], found.deciles[-1]) == (min(known), max(known))
    assert [each.wanted for each in found.at_least] == list(SHARES)
    for each in found.at_least:
        assert each.kept == sum(value >= each.value for value in known) / len(known)
        assert each.kept >= each.wanted - 1e-9
        assert sum(value > each.value for value in known) < each.wanted * len(known)
    for each in found.at_most:
        assert each.kept == sum(value <= each.value for value in known) / len(known)
        assert each.kept >= each.wanted - 1e-9
        assert sum(value < each.value for value in known) < each.wanted * len(known)


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=40))
def test_a_threshold_is_the_number_that_people_read(values: list[float]) -> None:
    found = summarize("s", np.array(values), len(values))
    for each in (*found.at_least, *found.at_most):
        assert each.value == float(f"{each.value:.3g}")
    for each in found.at_least:
        assert each.kept == sum(value >= each.value for value in values) / len(values)
        assert each.kept >= each.wanted - 1e-9
    for each in found.at_most:
        assert each.kept == sum(value <= each.value for value in values) / len(values)
        assert each.kept >= each.wanted - 1e-9


def test_a_histogram_counts_every_clip_in_its_bar() -> None:
    found = summarize("s", np.arange(100.0), 100)
    assert found.counts == [5] * 20
    assert (found.edges[0], found.edges[-1]) == (0.0, 99.0)
    assert summarize("s", np.full(3, 0.5), 3).counts == [3]
