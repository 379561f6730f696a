"""The word-level tokenizer."""

from __future__ import annotations

from jobs.benchmarks.demo_model.architecture import make_tokenizer
from jobs.benchmarks.demo_model.captions import Attributes, caption_of, caption_words
from pipeline.models.demo import DEFAULTS


def test_each_word_is_one_token() -> None:
    tokenizer = make_tokenizer()
    ids = [tokenizer(word).input_ids for word in caption_words()]
    assert all(len(pair) == 2 and pair[1] == tokenizer.eos_token_id for pair in ids)
    assert len({pair[0] for pair in ids}) == len(ids)
    assert tokenizer.unk_token_id not in {pair[0] for pair in ids}


def test_case_and_punctuation_do_not_matter_to_words() -> None:
    tokenizer = make_tokenizer()
    plain = tokenizer("a red circle moving left").input_ids
    assert tokenizer("A Red  circle moving LEFT").input_ids == plain
    assert tokenizer("a red circle moving left.").input_ids[: len(plain) - 1] == plain[:-1]


def test_unknown_words_become_the_unknown_token() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer("zebra").input_ids == [tokenizer.unk_token_id, tokenizer.eos_token_id]


def test_empty_text_is_the_end_token_alone() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


def test_longest_caption_fits_the_pinned_length() -> None:
    tokenizer = make_tokenizer()
    longest = caption_of(Attributes("magenta", "triangle", "right", "quickly", "gradient"))
    padded = tokenizer(longest, padding="max_length", max_length=DEFAULTS.max_sequence_length)
    assert len(padded.input_ids) == DEFAULTS.max_sequence_length
    assert sum(padded.attention_mask) == len(longest.split()) + 1
    assert tokenizer.decode(padded.input_ids, skip_special_tokens=True) == longest
