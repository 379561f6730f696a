"""Counts of tokens, against the tokenizers of the pipelines themselves."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.engine.diffusers_engine import load_engine
from pipeline.models.prompt_length import local_tokenizer, token_counts
from pipeline.models.resolve import resolve_model

PROMPTS = ["a cat", "a  red &amp; green\n circle " * 30, "über 🌆 مرحبا " * 9, "x" * 200]


def test_the_driver_counts_what_the_workers_count() -> None:
    model = resolve_model("demo")
    tokenizer = local_tokenizer(model)
    assert tokenizer is not None
    pipe = load_engine(model, device="cpu")._pipe
    own = [len(tokenizer.tokens(prompt, 1) or []) for prompt in PROMPTS]
    assert token_counts(pipe, PROMPTS) == own
    assert tokenizer.tokens("a cat", 32) is None
    # What is counted is what the encoder would get: the mask of the padded text has as many ones.
    padded = pipe.tokenizer(PROMPTS[0], padding="max_length", max_length=32)
    assert sum(padded["attention_mask"]) == own[0]


@pytest.mark.parametrize("length", range(20, 60, 3))
def test_no_prompt_at_the_limit_is_taken_for_a_short_one(length: int) -> None:
    tokenizer = local_tokenizer(resolve_model("demo"))
    assert tokenizer is not None
    prompt = "?" * length
    ids = tokenizer.tokens(prompt, 1) or []
    assert tokenizer.tokens(prompt, len(ids)) == ids


@pytest.mark.parametrize(
    ("family", "counted"), [("skyreels_v2", True), ("ltx", True), ("latte", False)]
)
def test_a_prompt_is_cleaned_as_the_pipelines_of_its_family_do(family: str, counted: bool) -> None:
    demo = resolve_model("demo")
    kind = dataclasses.replace(
        demo.spec.pipeline, family=dataclasses.replace(demo.spec.family, name=family)
    )
    spec = dataclasses.replace(demo.spec, pipeline=kind)
    tokenizer = local_tokenizer(dataclasses.replace(demo, spec=spec))
    assert (tokenizer is not None) is counted
    if tokenizer is not None:
        clean = tokenizer.tokens("a & b", 1)
        assert (tokenizer.tokens("a  &amp;  b", 1) == clean) == (family == "skyreels_v2")


def test_a_model_that_is_not_here_is_counted_by_its_workers() -> None:
    assert local_tokenizer(resolve_model("cogvideox-2b")) is None
    assert token_counts(object(), ["a"]) == [None]
