"""From a saved pipeline alone to a model: class, sampler, sizes, defaults and name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.catalogue import matching, signature
from pipeline.models.catalogue.matching import most_alike, spec_of
from pipeline.models.catalogue.saved_pipeline import SavedPipeline, read_folder
from pipeline.models.catalogue.saved_sizes import strides
from pipeline.models.load import load_pipeline
from pipeline.models.registry import MODELS, PIPELINES
from pipeline.models.resolve import resolve_model
from pipeline.models.samplers import make_scheduler
from pipeline.prompts.condition_columns import FIRST_IMAGE
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest

TinyModel = Callable[[str], Path]

WAN = "wan2.1-t2v-1.3b"


def saved(
    class_name: str = "WanPipeline",
    network: Mapping[str, Any] | None = None,
    scheduler: tuple[str, Mapping[str, Any]] = ("UniPCMultistepScheduler", {"flow_shift": 3.0}),
    **parts: Any,
) -> SavedPipeline:
    """The configurations of a saved Wan, as far as they are read."""
    shape = {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960, "patch_size": [1, 2, 2]}
    index = {
        "_class_name": class_name,
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "scheduler": ["diffusers", scheduler[0]],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        **parts,
    }
    configs = {
        "transformer": shape | (network or {}),
        "scheduler": scheduler[1],
        "vae": {"scale_factor_spatial": 8, "scale_factor_temporal": 4},
    }
    return SavedPipeline("my-wan", "my-wan", index, configs)


def test_a_fine_tune_has_the_defaults_of_the_model_with_its_network() -> None:
    spec, notes = spec_of(saved())
    base = MODELS[WAN]
    assert spec.defaults == base.defaults
    assert (spec.name, spec.pipeline, spec.sizes) == ("my-wan", base.pipeline, base.sizes)
    assert spec.profile == ""
    assert not spec.registered
    assert any(f"defaults of {WAN}, which has this network" in note for note in notes)
    assert any("saved is 3" in note for note in notes)


def test_a_network_of_another_shape_takes_the_nearest_model_and_its_own_shift() -> None:
    spec, notes = spec_of(saved(network={"num_layers": 28}))
    assert spec.defaults == dataclasses.replace(MODELS[WAN].defaults, flow_shift=3.0)
    assert "the network most like it" in notes[0]
    assert "shift 3 as saved" in notes[0]


def test_a_network_like_none_takes_the_defaults_of_its_class() -> None:
    odd = {"num_layers": 1, "num_attention_heads": 1, "ffn_dim": 1}
    spec, notes = spec_of(saved(network=odd))
    own = PIPELINES["WanPipeline"].defaults
    assert (spec.defaults.width, spec.defaults.guidance_scale) == (own.width, own.guidance_scale)
    assert "defaults of the class WanPipeline" in notes[0]


def test_two_networks_are_seen_in_the_index() -> None:
    both = ["diffusers", "WanTransformer3DModel"]
    big = {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}
    spec, _ = spec_of(saved(network=big, transformer_2=both))
    assert spec.two_networks
    assert spec.defaults == MODELS["wan2.2-t2v-a14b"].defaults
    one, _ = spec_of(saved(network=big, transformer_2=[None, None]))
    assert not one.two_networks
    assert one.defaults.guidance_scale_2 is None
    small, _ = spec_of(saved(transformer_2=both))
    assert small.defaults.guidance_scale_2 == small.defaults.guidance_scale


def test_the_stride_of_the_vae_decides_the_sizes() -> None:
    wide = saved(network={"num_layers": 28})
    configs = {**wide.configs, "vae": {"scale_factor_spatial": 16, "scale_factor_temporal": 4}}
    spec, _ = spec_of(dataclasses.replace(wide, configs=configs))
    assert (spec.sizes.multiple, spec.sizes.frame_stride) == (32, 4)


def test_a_random_sampler_gives_way_to_one_that_plans_accept() -> None:
    cog = SavedPipeline(
        "cog",
        "cog",
        {
            "_class_name": "CogVideoXPipeline",
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
        },
        {"transformer": {"num_layers": 42, "num_attention_heads": 48}, "scheduler": {}},
    )
    spec, notes = spec_of(cog)
    assert spec.defaults.sampler == "CogVideoXDDIMScheduler"
    assert "CogVideoXDPMScheduler is random" in notes[-1]
    assert spec.sizes.max_frames == 49


@pytest.mark.parametrize("name", [name for name in MODELS if name != "demo"])
def test_what_is_read_from_configurations_is_what_is_declared(
    name: str, tiny_model: TinyModel
) -> None:
    """The tiny pipelines are of the real classes: diffusers' own strides are the oracle."""
    found = read_folder(tiny_model(name))
    spec = MODELS[name]
    multiple, stride = strides(found.configs)
    pipe = load_pipeline(resolve_model(name, str(tiny_model(name))), "cpu")
    patch = found.configs["transformer"]["patch_size"]
    space = patch[1] if isinstance(patch, list) else patch
    ratio = next(
        getattr(pipe, field)
        for field in ("vae_scale_factor_spatial", "vae_spatial_compression_ratio")
        if hasattr(pipe, field)
    )
    assert multiple == ratio * space == spec.sizes.multiple
    if spec.family.name == "cogvideox":  # asks for more than its VAE
        assert spec.sizes.frame_stride == 2 * (stride or 0)
    else:
        assert stride == spec.sizes.frame_stride


@pytest.mark.parametrize("name", [name for name in MODELS if name != "demo"])
def test_every_saved_class_resolves_by_its_path_alone(name: str, tiny_model: TinyModel) -> None:
    model = resolve_model("", str(tiny_model(name)))
    own = MODELS[name].pipeline
    assert model.spec.pipeline.name == own.name
    assert model.spec.name == name  # of the folder
    assert model.revision == resolve_model(name, str(tiny_model(name))).revision
    assert len(model.notes) >= 1


def request_of(path: Path, **changes: Any) -> SampleRequest:
    given = {"prompts": "p", "output": "o", "model_path": str(path), "cache": {"policy": "none"}}
    config = RunConfig.model_validate(given | changes)
    assert config.model == ""
    model = resolve_model(config.model, config.model_path, shown_as=config.model_name)
    return build_request({"prompt": "a dog"}, request_defaults(config, model), "p:1")


def test_a_name_for_people_does_not_move_the_id(tiny_model: TinyModel, tmp_path: Path) -> None:
    moved = tmp_path / "renamed"
    shutil.copytree(tiny_model(WAN), moved)
    one, two = request_of(tiny_model(WAN)), request_of(moved)
    three = request_of(moved, model_name="mine")
    assert (one.model, two.model, three.model) == (WAN, "renamed", "mine")
    assert one.sample_id == two.sample_id == three.sample_id
    assert one.identity()["model"] == "WanPipeline"
    assert "model_class" not in one.identity()


def test_a_class_of_another_name_runs_as_the_one_with_its_parts(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_model(WAN), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "MyOwnPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    model = resolve_model("", str(folder))
    assert model.spec.pipeline is PIPELINES["WanPipeline"]
    assert "its parts are those of WanPipeline" in model.notes[0]
    assert type(load_pipeline(model, "cpu")).__name__ == "WanPipeline"


def test_a_class_of_diffusers_that_is_not_registered_is_described_by_its_signature(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ltx"
    shutil.copytree(tiny_model("ltx-video"), folder)
    others = {
        name: dataclasses.replace(known, saved_as=())
        for name, known in PIPELINES.items()
        if name != "LTXPipeline"
    }
    for module in (matching, signature):
        monkeypatch.setattr(module, "PIPELINES", others)
    model = resolve_model("", str(folder))
    spec = model.spec
    assert spec.pipeline.name == "LTXPipeline"
    assert "as its call's signature says" in model.notes[0]
    assert (spec.defaults.width, spec.defaults.num_frames, spec.defaults.fps) == (704, 161, 25)
    assert (spec.sizes.multiple, spec.sizes.frame_stride) == (32, 8)
    known = MODELS["ltx-video"].pipeline
    request = request_of(tiny_model("ltx-video"))
    assert spec.pipeline.call_arguments(request) == known.call_arguments(request)


def test_a_class_of_a_family_without_registered_classes_is_described_too() -> None:
    kandinsky = saved(
        "Kandinsky5T2VPipeline",
        scheduler=("FlowMatchEulerDiscreteScheduler", {"shift": 5.0}),
        transformer=["diffusers", "Kandinsky5Transformer3DModel"],
    )
    spec, _ = spec_of(kandinsky)
    assert spec.family.name == "kandinsky5"
    assert spec.defaults.sampler == "FlowMatchEulerDiscreteScheduler"
    assert (spec.defaults.width, spec.defaults.num_frames, spec.defaults.fps) == (768, 121, 24)
    assert not spec.family.splits


def test_a_random_sampler_of_such_a_class_gives_way_to_the_same_one_without_noise() -> None:
    allegro = saved(
        "AllegroPipeline",
        scheduler=("EulerAncestralDiscreteScheduler", {"prediction_type": "epsilon"}),
        transformer=["diffusers", "AllegroTransformer3DModel"],
    )
    spec, notes = spec_of(allegro)
    assert spec.defaults.sampler == "EulerDiscreteScheduler"
    assert spec.pipeline.prediction == "epsilon"
    assert spec.vae_tiling  # its decoder works in tiles only
    assert spec.sizes.problem(64, 64, 8) == ""
    assert "is not a multiple of 4" in spec.sizes.problem(64, 64, 9)
    assert "EulerAncestralDiscreteScheduler is random" in notes[-1]


def test_names_of_arguments_and_optional_inputs_follow_the_call() -> None:
    sana = saved("SanaVideoPipeline", transformer=["diffusers", "SanaVideoTransformer3DModel"])
    assert spec_of(sana)[0].pipeline.argument_names["num_frames"] == "frames"
    vace, notes = spec_of(saved("WanVACEPipeline"))
    assert vace.pipeline.argument_names == {"num_frames": "num_frames"}
    assert notes[1] == "each row may have video, mask, reference_images, as files"
    skyreels = saved(
        "HunyuanSkyreelsImageToVideoPipeline",
        transformer=["diffusers", "HunyuanVideoTransformer3DModel"],
    )
    spec, _ = spec_of(skyreels)
    assert spec.pipeline.argument_names["guidance_scale"] == "true_cfg_scale"
    assert not spec.pipeline.distilled_guidance
    assert (spec.defaults.guidance_scale, spec.conditions) == (6.0, (FIRST_IMAGE,))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"image_dim": 1280, "pos_embed_seq_len": 514}, "needs image and last_image"),
        ({"image_dim": 1280}, "needs image"),
        ({"image_dim": None}, "needs image and may have last_image"),
    ],
)
def test_what_a_network_does_with_a_last_frame_decides_the_columns(
    network: dict[str, Any], said: str
) -> None:
    spec, notes = spec_of(saved("WanImageToVideoPipeline", network))
    assert notes[0] == f"each row {said}, as files"
    assert [each.column for each in spec.conditions][:1] == ["image"]


@pytest.mark.parametrize(
    ("class_name", "network", "said"),
    [
        ("ConsisIDPipeline", "ConsisIDTransformer3DModel", "its call takes id_cond"),
        ("AllegroPipeline", "SomeTransformer", "SomeTransformer is of no known family"),
        ("NobodyKnowsPipeline", "SomeTransformer", "no class of diffusers"),
    ],
)
def test_what_nothing_explains_is_refused_with_a_way_out(
    class_name: str, network: str, said: str
) -> None:
    index = saved(class_name).index
    odd = dataclasses.replace(
        saved(class_name), index={**index, "transformer": ["diffusers", network]}
    )
    with pytest.raises(UserError, match=said) as caught:
        spec_of(odd)
    assert "--model-spec FILE.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_saved_sampler_that_does_not_fit_says_which_would() -> None:
    spec, _ = spec_of(saved(scheduler=("EulerDiscreteScheduler", {})))
    with pytest.raises(UserError, match="use UniPCMultistepScheduler or FlowMatchEuler"):
        make_scheduler(spec.defaults.sampler, spec.family, {})


def test_nothing_in_common_is_no_likeness() -> None:
    network = {"num_layers": 1, "num_attention_heads": 1, "ffn_dim": 1}
    assert most_alike(saved(network=network), PIPELINES["WanPipeline"]) == (None, False)


def test_sizes_are_those_that_a_call_can_make() -> None:
    def described(name: str, network: str, config: Mapping[str, Any] | None = None) -> Any:
        euler = ("FlowMatchEulerDiscreteScheduler", {})
        return spec_of(saved(name, config, euler, transformer=["diffusers", network]))[0]

    pack = described("HunyuanVideoFramepackPipeline", "HunyuanVideoFramepackTransformer3DModel")
    assert pack.sizes.problem(64, 64, pack.defaults.num_frames) == ""
    assert "use 37 or 73" in pack.sizes.problem(64, 64, 40)
    count = pack.pipeline.call_arguments.count
    assert [count(frames) for frames in (37, 73)] == [33, 66]
    helios = described("HeliosPipeline", "HeliosTransformer3DModel")
    assert helios.sizes.problem(64, 64, 66) == ""
    assert "not a multiple of 33" in helios.sizes.problem(64, 64, 33 + 4)
    kandinsky = described("Kandinsky5I2VPipeline", "Kandinsky5Transformer3DModel")
    assert "use 17 or more" in kandinsky.sizes.problem(64, 64, 13)
    fifteen = described(
        "HunyuanVideo15ImageToVideoPipeline",
        "HunyuanVideo15Transformer3DModel",
        {"target_size": 640, "patch_size": 1},
    )
    own = fifteen.defaults
    assert fifteen.sizes.problem(own.width, own.height, own.num_frames) == ""
    assert all(width * height <= 640**2 for width, height in fifteen.sizes.only)
    wan, _ = spec_of(saved(network={"num_layers": 3, "rope_max_seq_len": 32}))
    assert "use 125 or less" in wan.sizes.problem(64, 64, 129)
    cog = {"patch_size": 2, "patch_size_t": 2, "sample_width": 40, "sample_height": 30}
    table = described(
        "CogVideoXImageToVideoPipeline",
        "CogVideoXTransformer3DModel",
        {**cog, "use_rotary_positional_embeddings": True},
    )
    assert "width 336 is too much for this model: use 320" in table.sizes.problem(336, 240, 9)


@pytest.mark.parametrize(
    ("network", "length"),
    [
        ({"max_text_seq_length": 226, "use_rotary_positional_embeddings": False}, 226),
        ({"max_text_seq_length": 226, "use_rotary_positional_embeddings": True}, None),
        ({"image_dim": 1280, "added_kv_proj_dim": 5120}, 512),  # of Wan 2.1 I2V
        ({"image_dim": None, "added_kv_proj_dim": None}, None),  # of Wan 2.2 I2V
        ({}, None),
    ],
)
def test_a_network_can_ask_for_one_text_length(network: dict[str, Any], length: int | None) -> None:
    assert spec_of(saved(network=network))[0].text_length == length
