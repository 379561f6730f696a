"""What a run says of texts that its model does not read to their end."""

from __future__ import annotations

import dataclasses

from pipeline.models.prompt_length import local_tokenizer
from pipeline.models.resolve import resolve_model
from pipeline.requests.controls import control_for
from pipeline.requests.long_prompts import LongPrompts
from pipeline.requests.sample_request import SampleRequest

LIMIT = 8
REQUEST = SampleRequest("a cat", "", "demo", "r", "S/3", 5, 4.0, 64, 64, 9, 8, LIMIT, 3)
LONG, LONGER = "blurry, dark, " * 9, "blurry, dark, " * 10


def lines(*requests: SampleRequest) -> list[str]:
    tokenizer = local_tokenizer(resolve_model("demo"))
    assert tokenizer is not None
    watcher = LongPrompts(tokenizer)
    assert list(watcher.watch(requests)) == list(requests)
    return list(watcher.lines())


def test_each_negative_prompt_that_is_cut_off_counts_once() -> None:
    rows = [
        dataclasses.replace(REQUEST, negative_prompt=text, source_key=f"f:{number}", seed=number)
        for number, text in enumerate(["", LONG, LONG, LONGER, "dark"])
    ]
    assert lines(*rows, control_for(rows[1])) == [
        "2 negative prompts are longer than the 8 tokens that the model reads (first: row 1 "
        "of f): the "
        "end has no effect"
    ]
    assert lines(rows[0], rows[4]) == []


def test_prompts_and_negative_prompts_count_apart() -> None:
    both = dataclasses.replace(REQUEST, prompt=LONG, negative_prompt=LONG, source_key="f:7")
    first, second = lines(both)
    assert first.startswith(
        "1 prompt is longer than the 8 tokens that the model reads (first: row 7 of f)"
    )
    assert second.startswith("1 negative prompt is longer than the 8 tokens")
