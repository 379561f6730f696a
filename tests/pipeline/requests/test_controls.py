"""Which samples have a control, and what a control is."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import Committed, Ids
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import ConditionFile
from pipeline.prompts.prompt_file import SourceRow
from pipeline.requests.controls import (
    content_digest,
    control_for,
    digest_of_content,
    is_chosen,
    pack,
    sample_of,
    units,
    unpack,
)
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

SAMPLE = SampleRequest(
    "p", "", "demo", "rev", "S/3", 4, 4.0, 32, 16, 5, 8, 32, 0, CacheIdentity("paper", "{}", "h")
)
CONTENTS = [content_digest(dataclasses.replace(SAMPLE, seed=seed)) for seed in range(2000)]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_chooses_all_of_a_smaller_one(one: float, other: float) -> None:
    low, high = sorted((one, other))
    few = {each for each in CONTENTS[:200] if is_chosen(each, low)}
    assert few <= {each for each in CONTENTS[:200] if is_chosen(each, high)}


def test_the_share_is_as_asked_and_does_not_hang_on_the_first_digits() -> None:
    chosen = [each for each in CONTENTS if is_chosen(each, 0.2)]
    assert len(chosen) == pytest.approx(400, abs=4 * (2000 * 0.2 * 0.8) ** 0.5)
    assert len({each[0] >> 4 for each in chosen}) == 16
    assert all(is_chosen(each, 1.0) for each in CONTENTS)
    assert not any(is_chosen(each, 0.0) for each in CONTENTS)


def test_a_sample_is_chosen_below_its_own_share_and_not_at_it() -> None:
    for each in CONTENTS[:50]:
        drawn = hashlib.blake2b(each, digest_size=8, person=b"control").digest()
        share = int.from_bytes(drawn, "big") / 2**64
        assert not is_chosen(each, share)
        assert is_chosen(each, math.nextafter(share, 1.0))


def test_runs_with_another_cache_have_controls_of_the_same_clips() -> None:
    other = dataclasses.replace(SAMPLE, cache=CacheIdentity("planned", "{}", "k"), dtype="float16")
    assert content_digest(other) == content_digest(SAMPLE)
    for change in (
        {"seed": 1},
        {"prompt": "q"},
        {"conditions": (ConditionFile("image", "00", "a.png"),)},
    ):
        assert content_digest(dataclasses.replace(SAMPLE, **change)) != content_digest(SAMPLE)


def test_a_control_differs_in_its_cache_alone_and_is_nobody_elses_sample() -> None:
    control = control_for(SAMPLE)
    uncached = dataclasses.replace(SAMPLE, cache=CacheIdentity())
    assert control.control_of == SAMPLE.sample_id
    assert dataclasses.replace(control, control_of="", sample_cache=None) == uncached
    assert sample_of(control) == SAMPLE
    with pytest.raises(ValueError, match="does not say how"):
        sample_of(SAMPLE)
    quantised = dataclasses.replace(SAMPLE, quantisation="int8", drafts="[]", candidate=2)
    assert sample_of(control_for(quantised)).sample_id == quantised.sample_id
    assert len({control.sample_id, uncached.sample_id, SAMPLE.sample_id}) == 3
    assert "control_of" not in SAMPLE.identity()


def test_units_keep_pairs_together_through_transport() -> None:
    other = dataclasses.replace(SAMPLE, prompt="line\nbreak \u2028", seed=1)
    lone = control_for(dataclasses.replace(SAMPLE, seed=2))
    made = list(units([SAMPLE, control_for(SAMPLE), other, lone]))
    assert made == [[SAMPLE, control_for(SAMPLE)], [other], [lone]]
    assert [unpack(pack(unit)) for unit in made] == made


def test_intake_adds_controls_and_a_resumed_run_asks_for_the_missing_ones() -> None:
    defaults = RequestDefaults(SAMPLE, 7, SizeRules(16, 4))
    rows = [SourceRow(f"f:{n}", {"prompt": f"p{n}"}) for n in (0, 1, 1)]

    def read(committed: Committed, fraction: float) -> tuple[Intake, list[SampleRequest]]:
        intake = Intake(rows, defaults, committed, control_fraction=fraction)
        return intake, list(intake)

    intake, made = read(Committed(), 1.0)
    counts = intake.counts
    assert (counts.pending, counts.controls, counts.duplicates) == (4, 2, 1)
    assert [r.control_of for r in made] == ["", made[0].sample_id, "", made[2].sample_id]
    _, without = read(Committed(), 0.0)
    assert without == [made[0], made[2]]
    done = sorted(request.sample_id for request in (made[0], made[2], made[3]))
    resumed, left = read(Committed(Ids.from_bytes(bytes.fromhex("".join(done)))), 1.0)
    assert left == [made[1]]
    assert (resumed.counts.done, resumed.counts.controls) == (3, 1)
    assert resumed.counts.lone_controls == 1
    # A sample that failed is not made again to compare its control.
    failed = Ids.from_bytes(bytes.fromhex(made[0].sample_id))
    unmade, left = read(Committed(failed, failed), 1.0)
    assert [each.sample_cache for each in left if each.control_of] == [None, SAMPLE.cache]
    assert unmade.counts.lone_controls == 0


def test_controls_of_nothing_are_refused() -> None:
    config = RunConfig.model_validate(
        {"prompts": "p", "output": "o", "control_fraction": 0.1, "cache": {"quality": "lossless"}}
    )
    with pytest.raises(UserError, match=r"caches nothing"):
        request_defaults(config, resolve_model("demo"))


def test_the_content_of_a_sample_is_this_hash() -> None:
    """Literal: another hash would choose other controls in a run that is resumed."""
    text = "a c\ud800at\0" + "0" * 64 + "\0" + "7"
    wanted = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    assert digest_of_content("a c\ud800at", "0" * 64, 7) == wanted
