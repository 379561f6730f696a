from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.load import load_pipeline
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model

HUB_MODELS = [name for name, spec in MODELS.items() if spec.hub_id]


@pytest.mark.parametrize("name", HUB_MODELS)
def test_every_model_class_loads_from_disk(name: str, tiny_model: Callable[[str], Path]) -> None:
    pipe = load_pipeline(resolve_model(name, str(tiny_model(name))), "cpu")
    assert type(pipe).__name__ == MODELS[name].pipeline.name
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert len(modules) >= 3
    assert all(not module.training and module.device.type == "cpu" for module in modules)
    assert {parameter.dtype for module in modules for parameter in module.parameters()} == {
        torch.float32
    }


def test_wan_keeps_its_decoder_in_float32(tiny_model: Callable[[str], Path]) -> None:
    name = "wan2.1-t2v-1.3b"
    pipe = load_pipeline(resolve_model(name, str(tiny_model(name))), "cpu", "bfloat16")
    assert pipe.vae.dtype == torch.float32
    assert pipe.transformer.dtype == pipe.text_encoder.dtype == torch.bfloat16


def test_wan_reads_its_first_image_in_float32(tiny_model: Callable[[str], Path]) -> None:
    name = "wan2.1-i2v-14b"
    pipe = load_pipeline(resolve_model(name, str(tiny_model(name))), "cpu", "bfloat16")
    assert pipe.image_encoder.dtype == torch.float32
    assert pipe.transformer.dtype == torch.bfloat16


def test_hunyuan_keeps_only_its_network_in_bfloat16(tiny_model: Callable[[str], Path]) -> None:
    pipe = load_pipeline(
        resolve_model("hunyuanvideo", str(tiny_model("hunyuanvideo"))), "cpu", "bfloat16"
    )
    assert pipe.transformer.dtype == torch.bfloat16
    assert pipe.vae.dtype == pipe.text_encoder.dtype == torch.float16
    assert pipe.vae.use_tiling


def test_two_experts_load_with_their_boundary(tiny_model: Callable[[str], Path]) -> None:
    name = "wan2.2-t2v-a14b"
    pipe = load_pipeline(resolve_model(name, str(tiny_model(name))), "cpu")
    assert pipe.config.boundary_ratio == 0.875
    assert isinstance(pipe.transformer_2, diffusers.WanTransformer3DModel)


def test_an_unknown_dtype_is_refused(tiny_model: Callable[[str], Path]) -> None:
    model = resolve_model("ltx-video", str(tiny_model("ltx-video")))
    with pytest.raises(UserError, match="dtype 'int8' is not one of float32, bfloat16, float16"):
        load_pipeline(model, "cpu", "int8")


def test_a_folder_that_this_node_lacks_is_explained(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_model("ltx-video"), tmp_path / "copy")
    model = resolve_model("ltx-video", str(tmp_path / "copy"))
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(UserError, match="must be the same on every node"):
        load_pipeline(model, "cpu")


def test_weights_that_are_not_safetensors_are_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model("ltx-video"), folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UserError, match=f"cannot load ltx-video from {folder}"):
        load_pipeline(resolve_model("ltx-video", str(folder)), "cpu")


def test_a_missing_component_is_explained(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(tiny_model("ltx-video"), folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(UserError, match=f"cannot load ltx-video from {folder}"):
        load_pipeline(resolve_model("ltx-video", str(folder)), "cpu")


def test_a_hub_model_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = resolve_model("ltx-video")
    with pytest.raises(UserError, match=f"without internet: download .* at {model.revision}"):
        load_pipeline(model, "cpu")
