"""Any callable rewrites prompts; one that fails costs no row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.errors import UserError
from pipeline.prompts.prompt_file import SourceRow
from pipeline.prompts.rewriting.rewriter import (
    RewrittenPrompt,
    load_rewriter,
    rewrite_all,
    rewritten_row,
)


def louder(prompts: Sequence[str]) -> list[str]:
    return [prompt.upper() for prompt in prompts]


class Adds:
    def __init__(self, text: str = "!") -> None:
        self.text = text

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        if "bad" in prompts:
            raise RuntimeError("no\nidea")
        return [f"{prompt}{self.text} " for prompt in prompts]


NOT_CALLABLE = 3


def test_functions_classes_and_arguments_are_loaded() -> None:
    assert load_rewriter(f"{__name__}:louder")(["a"]) == ["A"]
    assert load_rewriter(f"{__name__}:Adds")(["a"]) == ["a! "]
    assert load_rewriter(f"{__name__}:Adds=, at night")(["a"]) == ["a, at night "]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("louder", "should be module:function"),
        (f"{__name__}:louder=x", "is no class, so it takes no =ARGUMENT"),
        (f"{__name__}:Missing", "AttributeError"),
        ("no.such.module:f", "ModuleNotFoundError"),
        (f"{__name__}:NOT_CALLABLE", "cannot be called"),
    ],
)
def test_what_cannot_be_used_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_rewriter(text)
    assert "\n" not in str(raised.value)


def test_only_the_prompt_that_fails_stays_as_it_was() -> None:
    assert rewrite_all(Adds(), ["a", "bad", "b"]) == [
        RewrittenPrompt("a!"),
        RewrittenPrompt("bad", "RuntimeError: no idea"),
        RewrittenPrompt("b!"),
    ]


def test_a_wrong_number_of_texts_and_empty_texts_are_errors() -> None:
    (one,) = rewrite_all(lambda prompts: [], ["a"])
    assert (one.prompt, one.error) == ("a", "ValueError: the rewriter gave 0 texts for 1 prompt")
    (two,) = rewrite_all(lambda prompts: [" "], ["a"])
    assert (two.prompt, two.error) == ("a", "the rewriter gave no text")


def test_rows_keep_their_columns_and_their_prompt_as_it_was() -> None:
    values = {"prompt": "a", "seed": 3, "width": None, "image": "pictures/a.png"}
    row = SourceRow("p:1", values, other={"tag": "x"}, folder="s3://bucket/set")
    made = rewritten_row(row, RewrittenPrompt("b"), "m:f")
    assert made == {
        **{"prompt": "b", "seed": 3, "tag": "x", "image": "s3://bucket/set/pictures/a.png"},
        **{"prompt_before": "a", "prompt_rewriter": "m:f"},
    }
    failed = rewritten_row(row, RewrittenPrompt("a", "no"), "m:f")
    assert failed["prompt"] == "a"
    assert failed["rewrite_error"] == "no"
    assert "prompt_before" not in failed
