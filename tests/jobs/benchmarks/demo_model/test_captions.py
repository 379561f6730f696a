"""The vocabulary, the captions and the split of the sprite world."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from jobs.benchmarks.demo_model.captions import (
    ATTRIBUTES,
    Attributes,
    caption_of,
    caption_words,
    combinations,
    parse_caption,
)


def test_every_caption_round_trips() -> None:
    for c, s, d, p, b in itertools.product(*ATTRIBUTES.values()):
        for speed, background in itertools.product((p, None), (b, None)):
            attributes = Attributes(c, s, d, speed, background)
            assert parse_caption(caption_of(attributes)) == attributes


def test_caption_reads_as_documented() -> None:
    attributes = Attributes("red", "circle", "left", "quickly", "black")
    assert caption_of(attributes) == "a red circle moving left quickly on a black background"


@pytest.mark.parametrize("text", ["", "a red dog moving left", "a red circle", "red circle left"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a caption"):
        parse_caption(text)


def test_split_is_a_partition_with_equal_shares() -> None:
    held_out, trained = combinations(held_out=True), combinations(held_out=False)
    assert len(held_out) == 120
    assert len(trained) == 720
    assert not set(held_out) & set(trained)
    for column, words in enumerate(ATTRIBUTES.values()):
        counts = Counter(row[column] for row in trained)
        assert len(counts) == len(words)
        assert max(counts.values()) - min(counts.values()) <= 0.1 * max(counts.values())


def test_words_are_distinct_and_sufficient() -> None:
    words = caption_words()
    assert len(words) == len(set(words))
    for combination in itertools.product(*ATTRIBUTES.values()):
        assert set(caption_of(Attributes(*combination)).split()) <= set(words)
