"""What requests take from the model and the settings of a run, and what is refused before it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.errors import RowRejectedError, UserError
from pipeline.models.registry import MODELS, get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.condition_columns import ConditionFile
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import CacheIdentity

WAN = "wan2.1-t2v-1.3b"
HUB_MODELS = [name for name, spec in MODELS.items() if spec.hub_id and not spec.conditions]


def config(**changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"prompts": "p.txt", "output": "out", "cache": {"policy": "none"}}
    return RunConfig.model_validate(fields | changes)


@pytest.mark.parametrize("name", HUB_MODELS)
def test_every_model_has_usable_defaults(name: str) -> None:
    model = resolve_model(name)
    defaults = request_defaults(config(model=name), model)
    request = build_request({"prompt": "a dog"}, defaults, "p.txt:0")
    assert request.model_revision == model.revision
    assert request.width == model.spec.defaults.width
    assert request.cache == CacheIdentity()


@pytest.mark.parametrize(
    ("device", "dtype", "kept"),
    [
        ("cuda", "bfloat16", ""),
        ("cuda", "float32", "float32"),
        ("cpu", "float32", ""),
        ("cpu", "bfloat16", "bfloat16"),
        ("auto", "bfloat16", "bfloat16"),
        ("cuda", "", ""),
    ],
)
def test_the_type_that_weights_have_anyway_makes_no_other_clip(
    device: str, dtype: str, kept: str
) -> None:
    model = resolve_model(WAN)
    assert model.spec.dtype == "bfloat16"
    template = request_defaults(config(model=WAN, device=device, dtype=dtype), model).template
    assert template.dtype == kept


EULER = "FlowMatchEulerDiscreteScheduler"
LEVELS = [1.0, 0.9, 0.5]


def with_levels(**changes: Any) -> RunConfig:
    sampling = {"sampler": EULER, "sigmas": LEVELS} | changes
    return config(model=WAN, sampling=sampling)


def test_listed_noise_levels_set_the_steps_and_leave_the_shift_out() -> None:
    model = resolve_model(WAN)
    template = request_defaults(with_levels(), model).template
    assert template.sigmas == (1.0, 0.9, 0.5)
    assert template.num_inference_steps == 3
    assert template.sampler == EULER  # the model's own shift would move the levels
    plain = request_defaults(config(model=WAN, sampling={"sampler": EULER}), model).template
    assert "sigmas" not in plain.identity()
    assert template.identity()["sigmas"] == LEVELS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow_shift": 3.0}, "flow_shift 3.0 would move them"),
        ({"num_inference_steps": 4}, "lists 3 noise levels, one a step"),
        ({"sampler": None}, f"takes no list of sigmas: use {EULER} or FlowMatchLCMScheduler"),
    ],
)
def test_what_contradicts_listed_noise_levels_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        request_defaults(with_levels(**changes), resolve_model(WAN))


def test_a_row_with_another_number_of_steps_than_levels_is_rejected() -> None:
    defaults = request_defaults(with_levels(), resolve_model(WAN))
    row = {"prompt": "a dog", "num_inference_steps": 3}
    assert build_request(row, defaults, "p.txt:0").sigmas == (1.0, 0.9, 0.5)
    with pytest.raises(RowRejectedError, match="the run lists 3 noise levels"):
        build_request(row | {"num_inference_steps": 4}, defaults, "p.txt:0")


def test_settings_of_the_configuration_go_before_the_model_s() -> None:
    sampling = {
        "num_inference_steps": 7,
        "guidance_scale": 0,
        "negative_prompt": "",
        "sampler": "FlowMatchEulerDiscreteScheduler",
        "flow_shift": 2.0,
        "seed": 0,
    }
    defaults = request_defaults(config(model=WAN, sampling=sampling), resolve_model(WAN))
    template = defaults.template
    assert template.num_inference_steps == 7
    assert template.guidance_scale == 0.0
    assert template.negative_prompt == ""
    assert template.sampler == "FlowMatchEulerDiscreteScheduler/2.0"
    assert defaults.seed == 0


def test_a_sampler_inherits_the_model_s_shift() -> None:
    sampling = {"sampler": "FlowMatchEulerDiscreteScheduler"}
    defaults = request_defaults(config(model=WAN, sampling=sampling), resolve_model(WAN))
    assert defaults.template.sampler == "FlowMatchEulerDiscreteScheduler/8.0"


@pytest.mark.parametrize(
    ("name", "sampling", "message"),
    [
        (
            WAN,
            {"width": 833},
            r"width 833 is not a multiple of 16: use 832 or 848.*--sampling\.wid",
        ),
        (WAN, {"num_frames": 80}, r"num_frames 80 .* use 77 or 81.*--sampling\.num-frames"),
        ("cogvideox-5b", {"num_frames": 45}, "use 41 or 49"),
        ("cogvideox-5b", {"num_frames": 161}, "too many for this model: use 49 or less"),
        ("cogvideox-2b", {"width": 1360, "height": 768}, "at most 345,600"),
        ("cogvideox-5b", {"flow_shift": 3.0}, r"--sampling\.flow-shift.*takes no flow shift"),
        ("ltx-video", {"sampler": "EulerDiscreteScheduler"}, r"--sampling\.sampler.*does not fit"),
        ("hunyuanvideo", {"negative_prompt": "blur"}, r"--sampling\.negative-prompt: hunyuanvideo"),
    ],
)
def test_what_a_model_cannot_do_names_the_flag(
    name: str, sampling: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        request_defaults(config(model=name, sampling=sampling), resolve_model(name))


TWO_EXPERTS = "wan2.2-t2v-a14b"


def test_a_second_network_has_a_guidance_of_its_own() -> None:
    model = resolve_model(TWO_EXPERTS)
    defaults = request_defaults(config(model=TWO_EXPERTS), model)
    request = build_request({"prompt": "a dog"}, defaults, "p:1")
    assert (request.guidance_scale, request.guidance_scale_2) == (4.0, 3.0)
    row = build_request({"prompt": "a dog", "guidance_scale_2": 2}, defaults, "p:1")
    assert row.guidance_scale_2 == 2.0
    assert row.sample_id != request.sample_id
    run = config(model=TWO_EXPERTS, sampling={"guidance_scale_2": 2})
    assert build_request({"prompt": "a dog"}, request_defaults(run, model), "p:1") == row
    off = build_request({"prompt": "a dog", "guidance_scale": 1}, defaults, "p:1")
    assert off.guidance_scale_2 is None
    assert "guidance_scale_2" not in off.identity()


def test_a_guidance_of_a_second_network_is_refused_where_there_is_none() -> None:
    sampling = {"guidance_scale_2": 3.0}
    with pytest.raises(UserError, match=r"--sampling\.guidance-scale-2: .*has one network"):
        request_defaults(config(model=WAN, sampling=sampling), resolve_model(WAN))
    defaults = request_defaults(config(model=WAN), resolve_model(WAN))
    with pytest.raises(RowRejectedError, match=r"guidance_scale_2: .* has one network"):
        build_request({"prompt": "a dog", "guidance_scale_2": 3.0}, defaults, "p:1")


@pytest.mark.parametrize(
    ("name", "size", "shift"),
    [
        ("wan2.1-t2v-14b", (1280, 720), 5.0),
        ("wan2.1-t2v-14b", (832, 480), 3.0),
        ("wan2.1-t2v-14b", (480, 832), 3.0),
        ("wan2.1-t2v-14b", (720, 1280), 5.0),
        ("wan2.1-i2v-14b", (832, 480), 3.0),
        ("wan2.1-i2v-14b", (1280, 720), 5.0),
        (WAN, (1280, 720), 8.0),
        (TWO_EXPERTS, (832, 480), 12.0),
    ],
)
def test_the_shift_follows_the_size(name: str, size: tuple[int, int], shift: float) -> None:
    sampling = {"width": size[0], "height": size[1]}
    spec = get_model(name)
    model = ResolvedModel(spec, "nowhere", "0" * 40)
    run = request_defaults(config(model=name, sampling=sampling), model)
    assert run.template.sampler == f"UniPCMultistepScheduler/{shift}"
    plain = request_defaults(config(model=name), model)
    row = {"prompt": "a dog", **sampling, "image": (ConditionFile("image", "0" * 64, "image.png"),)}
    assert build_request(row, plain, "p:1").sampler == run.template.sampler
    assert build_request(row, plain, "p:1").sample_id == build_request(row, run, "p:1").sample_id
    given = request_defaults(config(model=name, sampling={"flow_shift": 2.0}), model)
    assert build_request(row, given, "p:1").sampler == "UniPCMultistepScheduler/2.0"


def test_a_clip_that_would_be_its_image_alone_is_a_rejected_row() -> None:
    model, image = resolve_model("ltx-video-i2v"), (ConditionFile("image", "0" * 64, "image.png"),)
    defaults = request_defaults(config(model="ltx-video-i2v"), model)
    row = {"prompt": "a dog", "image": image}
    assert build_request(row | {"num_frames": 9}, defaults, "p.txt:0").num_frames == 9
    with pytest.raises(RowRejectedError, match=r"num_frames 1 is too few .*: use 9 or more"):
        build_request(row | {"num_frames": 1}, defaults, "p.txt:0")
    with pytest.raises(UserError, match="cannot make this size: num_frames 1 is too few"):
        request_defaults(config(model="ltx-video-i2v", sampling={"num_frames": 1}), model)


def test_a_split_that_is_not_offered_is_refused_before_the_run() -> None:
    split = config(parallel={"degree": 2, "ring": 2}, cache={"policy": "none"})
    with pytest.raises(UserError, match=r"--parallel\.ring 2: cogvideox-2b is split by Ulysses"):
        request_defaults(split, resolve_model("cogvideox-2b"))
    assert request_defaults(split, resolve_model(WAN)).template.model == WAN


@pytest.mark.parametrize(("scale", "warned"), [(1.0, True), (5.0, False)])
def test_branches_that_are_not_there_are_told(
    scale: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    split = config(parallel={"degree": 2, "cfg": 2}, sampling={"guidance_scale": scale})
    request_defaults(split, resolve_model(WAN))
    assert ("guidance is off" in caplog.text) == warned


@pytest.mark.parametrize(
    ("name", "asked", "decoding"),
    [
        (WAN, None, ""),
        (WAN, False, ""),
        (WAN, True, "tiled"),
        ("hunyuanvideo", True, ""),
        ("hunyuanvideo", False, "whole"),
    ],
)
def test_tiles_are_in_the_identity_where_the_model_has_none(
    name: str, asked: bool | None, decoding: str
) -> None:
    settings = config(model=name, engine={"vae_tiling": asked})
    template = request_defaults(settings, resolve_model(name)).template
    assert template.decoding == decoding
    assert ("decoding" in template.identity()) == bool(decoding)


def test_quantised_weights_have_controls_without_a_cache(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    demo = resolve_model("demo")
    plain = config(cache={"policy": "none"}, control_fraction=0.5)
    with pytest.raises(UserError, match="this run caches nothing"):
        request_defaults(plain, demo)
    given = config(
        cache={"policy": "none"}, control_fraction=0.5, engine={"quantize": "int8"}, device="cpu"
    )
    with caplog.at_level(logging.INFO):
        template = request_defaults(given, demo).template
    assert template.quantisation == "int8"
    assert "controls are made in full precision (--engine.quantize int8)" in caplog.text
    assert request_defaults(config(), demo).template.quantisation == ""
