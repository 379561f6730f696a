"""Descriptions by users: YAML files, Python objects, and what is said of mistakes in them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.models import registry
from pipeline.models.call import sampling_arguments
from pipeline.models.catalogue.spec_file import ModelDescription, given_model
from pipeline.models.registry import MODELS, PIPELINES, get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest

TinyModel = Callable[[str], Path]

WAN = "wan2.1-t2v-1.3b"
A_MODEL = MODELS[WAN]
A_CLASS = PIPELINES["WanPipeline"]
NO_MODEL = "text"

WHOLE = """
pipeline: MyPipeline
network: {classes: [MyTransformer], contexts: {cond: [cond], uncond: [uncond]}}
sizes: {multiple: 8, frame_stride: 4}
defaults: {width: 64, height: 32, num_frames: 9, fps: 8, num_inference_steps: 20, guidance_scale: 3}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "model.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_says_what_differs_from_a_known_class(
    tiny_model: TinyModel, tmp_path: Path, request_for: Callable[..., SampleRequest]
) -> None:
    file = written(
        tmp_path,
        "pipeline: WanPipeline\nname: mine\nlicence: MIT\ndtype: float32\n"
        "sizes: {max_frames: 33}\ndefaults: {num_inference_steps: 7, width: 64, height: 64}\n"
        "call: {guidance_scale_2: 2.0}\nargument_names: {max_sequence_length: ''}\n",
    )
    model = resolve_model("", str(tiny_model(WAN)), file)
    spec = model.spec
    assert (spec.name, spec.licence, spec.dtype) == ("mine", "MIT", "float32")
    assert (spec.sizes.multiple, spec.sizes.max_frames) == (16, 33)
    assert (spec.defaults.num_inference_steps, spec.defaults.width) == (7, 64)
    arguments = sampling_arguments(spec, request_for(model))
    assert arguments["guidance_scale_2"] == 2.0
    assert "max_sequence_length" not in arguments
    assert pickle.loads(pickle.dumps(model)) == model


def test_what_a_file_adds_to_the_call_is_part_of_the_identity(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    names = set()
    for text in ("", "call: {eta: 0.5}\n", "call: {eta: 0.25}\n", "licence: MIT\n"):
        file = written(tmp_path, f"pipeline: WanPipeline\n{text}")
        names.add(resolve_model("", str(tiny_model(WAN)), file).spec.identity_name)
    assert len(names) == 3  # a licence changes no pixel
    assert "WanPipeline" in names


def test_a_class_like_none_is_described_as_a_whole(tmp_path: Path) -> None:
    given = given_model(written(tmp_path, WHOLE))
    known = given.pipeline
    assert (known.name, known.sizes.multiple, known.defaults.num_inference_steps) == (
        "MyPipeline",
        8,
        20,
    )
    assert known.cache_family is not None
    assert known.cache_family.classes == ("MyTransformer",)
    assert pickle.loads(pickle.dumps(known)) == known


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("licence: MIT", "pipeline: Field required"),
        ("pipeline: WanPipeline\nsize: 3", "size: Extra inputs are not permitted"),
        (
            "pipeline: WanPipeline\nsizes: {multiple: 0}",
            r"sizes\.multiple: Input should be greater",
        ),
        ("pipeline: WanPipeline\ndefaults: {width: wide}", r"defaults\.width: Input should be a v"),
        ("pipeline: MyPipeline", r"defaults\.width.*sizes\.multiple.*network must be given"),
        ("pipeline: MyPipeline\nlike: Nobody", "like: Nobody is not known; known are WanPipeline"),
        ("pipeline: WanPipeline\nargument_names: {frames: x}", "frames is none of height, width"),
        ("- a", "should hold settings"),
    ],
)
def test_mistakes_name_the_file_and_the_field(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UserError, match=said) as caught:
        given_model(file)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_is_documented() -> None:
    def fields(model: Any) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            inner = list(getattr(field.annotation, "__args__", ()) or ())
            models = [
                each
                for each in (field.annotation, *inner)
                if isinstance(each, type) and hasattr(each, "model_fields")
            ]
            if models:
                missing += [f"{name}.{each}" for each in fields(models[0])]
            elif not field.description:
                missing.append(name)
        return missing

    assert fields(ModelDescription) == []


def test_a_python_object_is_taken_as_it_is(tiny_model: TinyModel) -> None:
    by_model = resolve_model("", str(tiny_model(WAN)), f"{__name__}:A_MODEL")
    assert by_model.spec.defaults == A_MODEL.defaults
    by_class = resolve_model("", str(tiny_model(WAN)), f"{__name__}:A_CLASS")
    assert by_class.spec.pipeline is A_CLASS
    hub = resolve_model("", "", f"{__name__}:A_MODEL")
    assert hub == ResolvedModel(A_MODEL, A_MODEL.hub_id, A_MODEL.revision)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("no_such_module:MODEL", "No module named"),
        ("pipeline.models.registry:NOTHING", "NOTHING"),
        (f"{__name__}:NO_MODEL", "is a str: give a ModelSpec or a PipelineClass"),
    ],
)
def test_an_object_that_is_none_is_refused(where: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        given_model(where)


def test_a_description_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --model-path, where its weights are"):
        resolve_model("", "", written(tmp_path, "pipeline: WanPipeline"))


ADDED = dataclasses.replace(A_MODEL, name="added-by-a-package")


def test_installed_packages_add_models(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("added", f"{__name__}:ADDED", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert get_model("added-by-a-package") == ADDED
    taken = EntryPoint("taken", f"{__name__}:A_MODEL", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [taken])
    with pytest.raises(UserError, match="with a name that no other model has"):
        get_model("unheard-of")
