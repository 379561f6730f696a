from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import RunConfig
from pipeline.errors import RowRejectedError, UserError
from pipeline.models.profile import load_profile
from pipeline.models.registry import MODELS, get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.condition_columns import ConditionFile
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity
from pipeline.storage.storage import Storage
from sencache import SensitivityProfile
from sencache.profiles.prior import prior_profile
from sencache.schedules.budget import PLANNER_VERSION
from tests.model_fixtures import changed

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


@given(epsilon=st.floats(0, 100), reuse=st.integers(1, 100), strict=st.floats(0, 1))
def test_policy_none_is_one_cache_whatever_else_is_set(
    epsilon: float, reuse: int, strict: float
) -> None:
    cache = {
        "policy": "none",
        "epsilon": epsilon,
        "max_reuse": reuse,
        "strict_epsilon": strict,
        "strict_fraction": strict,
        "profile": "nowhere.json",
    }
    assert CacheIdentity.of(config(cache=cache).cache.to_sencache(), None) == CacheIdentity()
    assert load_profile(config(cache=cache).cache, resolve_model(WAN)) is None


def test_the_cache_of_a_request_names_its_profile(
    wan_profile: Path, profile: SensitivityProfile
) -> None:
    cache = {"policy": "paper", "epsilon": 0.25, "profile": str(wan_profile)}
    template = request_defaults(config(model=WAN, cache=cache), resolve_model(WAN)).template
    assert template.cache.policy == "paper"
    assert template.cache.profile == profile.hash
    assert '"epsilon":0.25' in template.cache.params


@pytest.mark.parametrize("policy", ["paper", "planned"])
def test_a_model_without_a_profile_measures_its_own_or_takes_the_prior(
    policy: str, storage: Storage
) -> None:
    settings, model = config(model=WAN, cache={"policy": policy}), resolve_model(WAN)
    waiting = request_defaults(settings, model, storage)
    assert waiting.chosen.is_pending
    assert waiting.template.cache.profile == UNMEASURED
    prior = prior_profile("flow").hash
    for other in (
        request_defaults(settings, model),
        request_defaults(settings, model, storage, measure=False),
        request_defaults(
            config(model=WAN, cache={"policy": policy, "measure_clips": 0}), model, storage
        ),
    ):
        assert (other.chosen.source, other.template.cache.profile) == ("prior", prior)
        assert other.template.cache.params == waiting.template.cache.params


def test_an_own_profile_that_cannot_be_had_is_refused(storage: Storage) -> None:
    settings = config(model=WAN, cache={"policy": "planned", "profile": "own"})
    model = resolve_model(WAN)
    assert request_defaults(settings, model, storage).chosen.is_pending
    with pytest.raises(UserError, match=r"--cache\.profile own: this prefix holds no profile"):
        request_defaults(settings, model, storage, measure=False)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({}, ""),
        ({"flow_shift": 3.0}, "shift 8.0 but the run has 3.0"),
        ({"num_inference_steps": 50}, "num_inference_steps 5 but the run has 50"),
        ({"guidance_scale": 1.0}, "guidance but the run has no guidance"),
        ({"width": 832, "height": 480}, "clips of 64x64x9 but the run has 832x480x9"),
    ],
)
def test_a_run_far_from_its_profile_is_warned_of_once(
    wan_profile: Path, caplog: pytest.LogCaptureFixture, differs: dict[str, Any], said: str
) -> None:
    as_measured = {"num_inference_steps": 5, "width": 64, "height": 64, "num_frames": 9}
    cache = {"policy": "paper", "profile": str(wan_profile)}
    settings = config(model=WAN, cache=cache, sampling=as_measured | differs)
    for _ in range(2):  # as a program does that builds a Dataset
        request_defaults(settings, resolve_model(WAN))
    assert [said in record.getMessage() for record in caplog.records] == [True] * bool(said)


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


def test_a_budget_makes_a_planned_cache_of_the_shipped_profile() -> None:
    planned = config(cache={"policy": "planned", "budget": 0.4})
    model = resolve_model("demo", "")
    spec = request_defaults(planned, model).template.cache
    assert spec.policy == "planned"
    assert '"budget":0.4' in spec.params
    shipped = load_profile(planned.cache, model)
    assert shipped is not None
    assert spec.profile == shipped.hash
    other = config(cache={"policy": "planned", "budget": 0.5})
    assert request_defaults(other, model).template.cache != spec


def test_a_plan_without_a_drift_is_refused_before_the_run(tmp_path: Path) -> None:
    model = resolve_model("demo", "")
    shipped = load_profile(config(cache={"policy": "paper"}).cache, model)
    assert shipped is not None
    path = tmp_path / "old.json"
    dataclasses.replace(shipped, drift=None).save(path)
    old = config(cache={"policy": "planned", "profile": str(path)})
    with pytest.raises(UserError, match=r"drift of the output.*jobs/calibrate\.py"):
        request_defaults(old, model)


def test_a_sampler_that_cannot_be_planned_is_refused_before_the_run(tmp_path: Path) -> None:
    shipped = load_profile(config(cache={"policy": "paper"}).cache, resolve_model("demo", ""))
    assert shipped is not None
    model = resolve_model("cogvideox-5b")
    path = tmp_path / "cog.json"
    changed(shipped, model=model.spec.name, family="cogvideox", revision=model.revision).save(path)
    cache = {"budget": 0.4, "profile": str(path)}
    sampling = {"sampler": "CogVideoXDPMScheduler"}
    with pytest.raises(
        UserError,
        match=r"planned: CogVideoXDPM.*--sampling\.sampler CogVideoXDDIMScheduler, .*policy paper",
    ):
        request_defaults(config(model=model.spec.name, cache=cache, sampling=sampling), model)
    sampling = {"sampler": "CogVideoXDDIMScheduler"}
    request_defaults(config(model=model.spec.name, cache=cache, sampling=sampling), model)


def test_a_gate_without_room_is_refused_before_the_run() -> None:
    model = resolve_model("demo", "")
    request_defaults(config(cache={"budget": 0.34, "gate": 2}), model)
    request_defaults(config(cache={"policy": "none", "gate": 49}), model)
    with pytest.raises(UserError, match=r"cache\.gate: .* computes 17 of 50 .* be 7 to 10"):
        request_defaults(config(cache={"budget": 0.34, "gate": 40}), model)


PAPER = (
    '"epsilon":0.1,"max_reuse":3,"strict_epsilon":0.01,"strict_fraction":0.2,'
    '"uncond_verdict":"follow"}'
)


PLANNED = f'"order":1,"planner":{PLANNER_VERSION},"repair":true}}'


@pytest.mark.parametrize(
    ("cache", "policy", "params"),
    [
        ({"policy": "none"}, "none", "{}"),
        ({"policy": "none", "epsilon": 0.3, "correct": True}, "none", "{}"),
        ({"epsilon": 0.0}, "none", "{}"),
        ({}, "planned", '{"max_error":0.01,' + PLANNED),
        ({"policy": "paper"}, "paper", "{" + PAPER),
        ({"correct": True}, "paper", '{"correct":true,' + PAPER),
        ({"policy": "planned"}, "planned", '{"max_error":0.01,' + PLANNED),
        ({"budget": 0.34, "gate": 0}, "planned", '{"budget":0.34,' + PLANNED),
    ],
)
def test_settings_keep_the_identity_that_stored_samples_have(
    cache: dict[str, Any], policy: str, params: str
) -> None:
    """Literal: another text would make a resumed run make every clip again."""
    settings = config(cache=cache).cache
    spec = CacheIdentity.of(settings.to_sencache(), load_profile(settings, resolve_model("demo")))
    assert (spec.policy, spec.params) == (policy, params)
    assert bool(spec.profile) == (policy != "none")


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


def test_a_gate_is_refused_for_a_model_with_two_networks() -> None:
    demo = resolve_model("demo")
    given = config(cache={"budget": 0.34, "gate": 2})
    request_defaults(given, demo)
    two = dataclasses.replace(demo, spec=dataclasses.replace(demo.spec, two_networks=True))
    with pytest.raises(UserError, match=r"cache\.gate 2: demo has two networks, and a gate is for"):
        request_defaults(given, two)
    request_defaults(config(cache={"budget": 0.34}), two)
    assert [spec.name for spec in MODELS.values() if spec.two_networks] == ["wan2.2-t2v-a14b"]


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


@pytest.mark.parametrize(
    ("cache", "steps", "measures"),
    [
        ({}, 50, True),
        ({}, 6, False),  # the plan computes every step
        ({"budget": 0.5}, 6, True),
        ({"measure_clips": 4}, 6, True),
        ({"profile": "own"}, 6, True),
    ],
)
def test_a_run_whose_plan_reuses_nothing_measures_nothing_by_itself(
    tmp_path: Path, cache: dict[str, Any], steps: int, measures: bool
) -> None:
    model = resolve_model("wan2.1-t2v-1.3b")
    settings = config(model=model.spec.name, cache=cache, sampling={"num_inference_steps": steps})
    chosen = request_defaults(settings, model, Storage(str(tmp_path))).chosen
    assert chosen.source == ("own" if measures else "prior")
