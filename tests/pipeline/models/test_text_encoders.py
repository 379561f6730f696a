"""Texts encoded apart from the network."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.cluster.text_stage import TEXTS_COLUMN, TextActor, with_texts
from pipeline.engine.diffusers_engine import DiffusersEngine, load_engine
from pipeline.models.load import load_pipeline
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.models.text_encoders import (
    PromptEncoder,
    TextError,
    encode_texts,
    failed_text,
)
from pipeline.prompts.condition_columns import ConditionFile
from pipeline.requests.controls import control_for, pack
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from tests.model_fixtures import one_quick

HUB_MODELS = [name for name, spec in MODELS.items() if spec.hub_id]


def requests_for(model: ResolvedModel, *prompts: str) -> list[SampleRequest]:
    spec = model.spec
    base = SampleRequest(
        prompt="",
        negative_prompt="" if spec.pipeline.distilled_guidance else "blurry",
        model=spec.name,
        model_revision=model.revision,
        sampler=spec.defaults.sampler,
        num_inference_steps=2,
        guidance_scale=4.0,
        width=spec.sizes.multiple * 2,
        height=spec.sizes.multiple * 2,
        num_frames=1 + spec.sizes.frame_stride,
        fps=8,
        max_sequence_length=24,
        seed=3,
    )
    return [dataclasses.replace(base, prompt=prompt) for prompt in prompts]


@pytest.mark.slow
@pytest.mark.parametrize("name", one_quick(["demo", *HUB_MODELS]))
def test_clips_of_encoded_texts_are_those_of_the_texts(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = resolve_model(name, "" if name == "demo" else str(tiny_model(name)))
    requests = requests_for(model, "a red circle", "a blue square, moving")
    if model.spec.conditions:
        image = tmp_path / "first.png"
        Image.new("RGB", (64, 48), "red").save(image)
        sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
        files = (ConditionFile("image", sha256, str(image)),)
        # Requests with files have calls of their own.
        requests = [dataclasses.replace(requests[0], conditions=files)]
    whole = load_engine(model, device="cpu").generate(requests)
    encoder = load_pipeline(dataclasses.replace(model, parts="text"), "cpu")
    assert encoder.transformer is None
    assert encoder.vae is None
    texts = encode_texts(PromptEncoder(encoder, model.spec), requests)
    rest = load_engine(dataclasses.replace(model, parts="clips"), device="cpu")
    encoded = [
        dataclasses.replace(request, texts=text)
        for request, text in zip(requests, texts, strict=True)
    ]
    apart = rest.generate(encoded)
    for one, other in zip(whole, apart, strict=True):
        assert np.array_equal(one.frames, other.frames)
    if len(apart) > 1:
        assert not np.array_equal(apart[0].frames, apart[1].frames)


def test_encoded_texts_are_no_part_of_a_sample() -> None:
    (plain,) = requests_for(resolve_model("demo", ""), "a red circle")
    carrying = dataclasses.replace(plain, texts=b"T...")
    assert carrying == plain
    assert carrying.sample_id == plain.sample_id
    assert SampleRequest.from_json(carrying.to_json()).texts == b""


def encoder_that_fails_on(bad: str) -> Callable[[], Callable[..., list[bytes]]]:
    def encode(batch: list[SampleRequest]) -> list[bytes]:
        if any(request.prompt == bad for request in batch):
            raise ValueError(f"no words for {bad}")
        return [f"T{len(batch)}{request.prompt}".encode() for request in batch]

    return lambda: encode


def test_the_stage_adds_texts_in_order_and_in_the_batches_of_the_engine() -> None:
    requests = requests_for(resolve_model("demo", ""), "a", "b", "bad", "c")
    wide = dataclasses.replace(requests[0], prompt="w", width=256)
    cached = dataclasses.replace(requests[1], cache=CacheIdentity("paper"), prompt="d")
    units = [[requests[0]], [wide], [requests[1]], [requests[2]], [requests[3]]]
    units.append([cached, control_for(cached)])
    table = pa.table({"request": [pack(unit) for unit in units]})
    made = TextActor(encoder_that_fails_on("bad"), "request", 2)(table)
    assert made.column_names == ["request", TEXTS_COLUMN]
    assert made[TEXTS_COLUMN].to_pylist() == [
        b"T2a",
        b"T1w",
        b"T2b",
        b"EValueError: no words for bad",
        b"T1c",
        b"T1d",
    ]
    sample, control = with_texts(units[-1], b"T1d")
    assert (sample.texts, control.texts) == (b"T1d", b"T1d")


def test_a_text_that_cannot_be_encoded_fails_its_own_sample() -> None:
    model = resolve_model("demo", "")
    (request,) = requests_for(model, "a")
    engine = DiffusersEngine(model, load_pipeline(dataclasses.replace(model, parts="clips"), "cpu"))
    bad = dataclasses.replace(request, texts=failed_text(ValueError("no words")))
    with pytest.raises(TextError, match="ValueError: no words"):
        engine.generate([bad])


@pytest.mark.slow
def test_a_negative_prompt_is_encoded_once(tiny_resolved: Callable[[str], ResolvedModel]) -> None:
    model = tiny_resolved("wan2.1-t2v-1.3b")
    engine = load_engine(model, device="cpu")
    encoded: list[list[str]] = []
    before = engine._pipe._get_t5_prompt_embeds

    def watched(*, prompt: list[str], **rest: Any) -> torch.Tensor:
        encoded.append(prompt)
        embeddings: torch.Tensor = before(prompt=prompt, **rest)
        return embeddings

    engine._pipe._get_t5_prompt_embeds = watched
    one, two = requests_for(model, "a red circle", "a blue square")
    first, again = engine.generate([one]), engine.generate([one])
    assert encoded == [["blurry"], [one.prompt], [one.prompt]]
    engine.generate([one, two])
    engine.generate([two, one])
    both = [one.prompt, two.prompt]
    assert encoded[3:] == [["blurry", "blurry"], both, both[::-1]]
    assert np.array_equal(first[0].frames, again[0].frames)
    other = dataclasses.replace(one, negative_prompt="dark")
    assert not np.array_equal(engine.generate([other])[0].frames, first[0].frames)
    assert encoded[-2:] == [["dark"], [one.prompt]]
    engine.close()


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "cogvideox-2b", "ltx-video"])
def test_a_negative_prompt_is_encoded_as_its_pipeline_would(
    name: str, tiny_resolved: Callable[[str], ResolvedModel]
) -> None:
    model = tiny_resolved(name)
    pipe = load_pipeline(model, "cpu")
    (request,) = requests_for(model, "a red circle")
    names = model.spec.pipeline.text_embeddings
    with torch.no_grad():
        wanted = pipe.encode_prompt(
            prompt=[request.prompt],
            negative_prompt=[request.negative_prompt],
            do_classifier_free_guidance=True,
            max_sequence_length=24,
        )
    given = PromptEncoder(pipe, model.spec).arguments([request])
    assert given.keys() == {*names}
    for embedding, tensor in zip(names, wanted, strict=True):
        assert torch.equal(given[embedding], tensor)
