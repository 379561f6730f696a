"""The thresholds of the authors' public code; `test_oracle` covers its decisions."""

from __future__ import annotations

import pytest

from sencache import SenCacheConfig
from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.policies.official import OfficialRule


@pytest.mark.slow
def test_the_authors_code_takes_a_looser_first_threshold_as_it_is_and_counts_calls() -> None:
    config = SenCacheConfig(
        policy="official", epsilon=0.01, strict_epsilon=0.5, final_computed=0, strict_fraction=0.2
    )
    rule = OfficialRule(config, None, OFFICIAL_SETTINGS["wan"])
    # A fifth of 24 calls is 5: the third step is begun in it.
    thresholds = [rule.threshold(step, 12) for step in range(12)]
    assert thresholds == [0.0, 0.5, 0.5, *[0.01] * 9]
