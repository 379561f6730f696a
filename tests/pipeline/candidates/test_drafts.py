"""Drafts are the clips of their seeds with a smaller budget, and nothing else differs."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.candidates.drafts import DraftSettings, candidates_of, drafts_of
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity, SampleRequest
from pipeline.requests.seeds import copy_seed, next_try
from sencache import SenCacheConfig
from sencache.measuring import prior_profile

PRIOR = prior_profile("flow")


def planned(**settings: float) -> CacheIdentity:
    return CacheIdentity.of(SenCacheConfig(policy="planned", **settings), PRIOR)  # type: ignore[arg-type]


REQUEST = SampleRequest(
    *("p", "", "demo", "r", "S/3", 50, 4.0, 64, 64, 17, 8, 32, 3),
    cache=planned(max_error=0.01),
    source_key="f:1",
)
FOUR = DraftSettings(4, 0.16, "sharpness")


def test_a_draft_is_the_sample_of_its_seed_and_budget() -> None:
    drafts = drafts_of(REQUEST, FOUR)
    for draft, candidate in zip(drafts, candidates_of(REQUEST, 4), strict=True):
        assert draft.cache == planned(budget=0.16)
        assert draft.draft_of == REQUEST.sample_id
        plain = dataclasses.replace(REQUEST, seed=draft.seed, cache=planned(budget=0.16))
        assert draft.sample_id == plain.sample_id
        assert candidate.sample_id == dataclasses.replace(REQUEST, seed=draft.seed).sample_id
    assert len({draft.seed for draft in drafts}) == 4
    assert drafts[0].seed == REQUEST.seed
    assert [draft.candidate for draft in drafts] == [1, 2, 3, 4]


def test_more_drafts_keep_the_seeds_of_fewer_and_meet_no_other_series() -> None:
    seeds = [each.seed for each in candidates_of(REQUEST, 64)]
    assert seeds[:4] == [each.seed for each in candidates_of(REQUEST, 4)]
    copies = {copy_seed(3, copy) for copy in range(1, 100)}
    redraw = next_try(dataclasses.replace(REQUEST, candidates=2))
    assert redraw is not None
    assert (copies | {redraw.seed}).isdisjoint(seeds)


def test_a_gate_and_a_profile_to_come_are_handled() -> None:
    gated = CacheIdentity.of(SenCacheConfig(policy="planned", budget=0.34, gate=2), PRIOR)
    waiting = dataclasses.replace(gated, profile=UNMEASURED)
    (first, *_) = drafts_of(dataclasses.replace(REQUEST, cache=waiting), FOUR)
    assert first.cache == dataclasses.replace(planned(budget=0.16), profile=UNMEASURED)


def test_only_planned_clips_have_drafts() -> None:
    with pytest.raises(ValueError, match="policy none"):
        drafts_of(dataclasses.replace(REQUEST, cache=CacheIdentity()), FOUR)
