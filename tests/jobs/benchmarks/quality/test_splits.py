"""The three sets of captions and seeds."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from jobs.benchmarks.demo_model.captions import parse_caption
from jobs.benchmarks.quality.splits import (
    CALIBRATION,
    DEMO_HELD_OUT,
    DEV,
    HELD_OUT,
    SPLITS,
    captions_of,
    hashed_split,
    prompts_hash,
    split_clips,
)
from pipeline.errors import UserError

HASHES = {
    "calibration": "2ac0c7774eadf4fe",
    "dev": "f8316657bf4dfc15",
    "held-out": "b7574bf8ffd56d42",
}


def test_the_demo_model_s_sets_share_no_caption_and_no_seed() -> None:
    sets = {split: captions_of("demo", "", split) for split in SPLITS}
    clips = {split: split_clips(sets[split], split, len(sets[split])) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(sets[one]) & set(sets[other])
        assert not {c.seed for c in clips[one]} & {c.seed for c in clips[other]}
    for split in SPLITS:
        assert len(set(sets[split])) == len(sets[split])
        assert len({c.seed for c in clips[split]}) == len(sets[split])
        for caption in sets[split]:
            parse_caption(caption)
    assert len(sets[HELD_OUT]) == DEMO_HELD_OUT == 64
    assert len(sets[DEV]) >= 48


def test_calibration_captions_come_again_with_other_seeds() -> None:
    captions = captions_of("demo", "", CALIBRATION)
    clips = split_clips(captions, CALIBRATION, len(captions) + 2)
    assert clips[: len(captions)] == split_clips(captions, CALIBRATION, len(captions))
    assert [clip.caption for clip in clips[-2:]] == captions[:2]
    assert len({clip.seed for clip in clips}) == len(clips)
    for split in (DEV, HELD_OUT):
        with pytest.raises(UserError, match=f"the {split} set has 1 to 3"):
            split_clips(["a", "b", "c"], split, 4)


def test_the_sets_never_change() -> None:
    hashes = {
        split: prompts_hash(split_clips(captions, split, len(captions)))
        for split in SPLITS
        if (captions := captions_of("demo", "", split))
    }
    assert hashes == HASHES, "other sets: numbers measured before cannot be compared any more"


def test_a_file_is_split_by_hash_whatever_else_is_in_it(tmp_path: Path) -> None:
    captions = [f"a dog number {n}" for n in range(400)]
    short, long = tmp_path / "short.txt", tmp_path / "long.txt"
    short.write_text("\n".join(captions[:200]))
    long.write_text("\n".join([*reversed(captions), captions[0]]))  # one twice
    sets = {split: captions_of("wan2.1-t2v-1.3b", str(long), split) for split in SPLITS}
    assert sorted(itertools.chain(*sets.values())) == sorted(captions)
    assert 25 < len(sets[CALIBRATION]) < 80 < len(sets[DEV]) < len(sets[HELD_OUT])
    for split in SPLITS:
        assert set(captions_of("x", str(short), split)) <= set(sets[split])
        assert all(hashed_split(caption) == split for caption in sets[split])


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(UserError, match="give --prompts FILE"):
        captions_of("wan2.1-t2v-1.3b", "", DEV)
    for count in (0, 3):
        with pytest.raises(UserError, match="has 1 to 2"):
            split_clips(["a", "b"], DEV, count)


def test_a_hash_tells_captions_seeds_and_order() -> None:
    clips = split_clips(["a", "b"], DEV, 2)
    assert prompts_hash(clips) == prompts_hash(split_clips(["a", "b"], DEV, 2))
    assert prompts_hash(clips) != prompts_hash(clips[::-1])
    assert prompts_hash(clips) != prompts_hash(split_clips(["a", "b"], HELD_OUT, 2))
