"""Settings of an engine: what is refused, and what reaches a loaded pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers.models.attention_dispatch import AttentionBackendName

from pipeline.config.sections import EngineConfig, StagesConfig
from pipeline.errors import UserError
from pipeline.models import load as load_module
from pipeline.models.engine_options import EngineOptions, settle_options
from pipeline.models.load import load_pipeline, straight_to
from pipeline.models.registry import get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ModelSpec
from pipeline.parallel.layout import ALONE, CONTEXT_PARALLEL, ParallelLayout

WAN, COG, LTX, HUNYUAN = "wan2.1-t2v-1.3b", "cogvideox-5b", "ltx-video", "hunyuanvideo"
PAIR, RING = ParallelLayout(CONTEXT_PARALLEL, ulysses=2), ParallelLayout(CONTEXT_PARALLEL, ring=2)


@pytest.mark.parametrize(
    ("name", "layout", "device", "settings", "message"),
    [
        (COG, ALONE, "cuda", {"attention": "flash"}, r"flash does not serve .*use auto, sdpa"),
        (HUNYUAN, ALONE, "cuda", {"attention": "flash3"}, "use auto, sdpa, cudnn"),
        (WAN, RING, "cuda", {"attention": "sdpa"}, "sdpa does not serve a ring: use auto"),
        (WAN, ALONE, "cpu", {"attention": "cudnn"}, r"--engine\.attention cudnn needs a GPU"),
        (WAN, ALONE, "cpu", {"offload": "model"}, r"--engine\.offload model needs a GPU"),
        (WAN, PAIR, "cuda", {"offload": "sequential"}, r"one GPU.*--parallel\.degree 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, layout: ParallelLayout, device: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        settle_options(EngineConfig(**settings), StagesConfig(), get_model(name), layout, device)


def test_settings_that_fit_are_taken_over() -> None:
    config = EngineConfig(attention="flash", compile=True, vae_tiling=False, offload="model")
    options = settle_options(config, StagesConfig(), get_model(WAN), ALONE, "cuda")
    assert options == EngineOptions("flash", compile=True, vae_tiling=False, offload="model")
    plain = settle_options(EngineConfig(), StagesConfig(), get_model(WAN), RING, "cuda")
    assert plain == EngineOptions()
    beside = StagesConfig(decode="beside")
    assert settle_options(EngineConfig(), beside, get_model(WAN), ALONE, "cuda").decode_beside


OWN_STEPS = dataclasses.replace(
    get_model(WAN), pipeline=dataclasses.replace(get_model(WAN).pipeline, own_steps=True)
)


@pytest.mark.parametrize(
    ("spec", "layout", "settings", "message"),
    [
        (
            get_model(WAN),
            PAIR,
            {},
            r"--stages\.decode beside is for .* one GPU.*--parallel\.degree 1",
        ),
        (
            get_model(WAN),
            ALONE,
            {"offload": "model"},
            r"beside does not go with --engine\.offload model",
        ),
        (OWN_STEPS, ALONE, {}, f"beside does not serve {WAN}"),
    ],
)
def test_a_decode_beside_the_next_clip_is_refused_where_the_two_would_disturb_each_other(
    spec: ModelSpec, layout: ParallelLayout, settings: dict[str, Any], message: str
) -> None:
    beside = StagesConfig(decode="beside")
    with pytest.raises(UserError, match=message):
        settle_options(EngineConfig(**settings), beside, spec, layout, "cuda")


@pytest.fixture
def load(tiny_model: Callable[[str], Path]) -> Callable[..., Any]:
    def load(name: str, **options: Any) -> Any:
        model = resolve_model(name, str(tiny_model(name)))
        return load_pipeline(model, "cpu", options=EngineOptions(**options))

    return load


@pytest.mark.parametrize(
    ("name", "given", "tiled"),
    [(WAN, None, False), (WAN, True, True), (HUNYUAN, None, True), (HUNYUAN, False, False)],
)
def test_tiling_is_the_model_s_own_unless_said(
    load: Callable[..., Any], name: str, given: bool | None, tiled: bool
) -> None:
    vae = load(name, vae_tiling=given, vae_slicing=True).vae
    assert (vae.use_tiling, vae.use_slicing) == (tiled, True)
    assert load(name).vae.use_slicing
    assert not load(name, vae_slicing=False).vae.use_slicing


def test_the_kernel_of_ltx_is_set_where_no_mask_comes(load: Callable[..., Any]) -> None:
    block = load(LTX, attention="sdpa_flash").transformer.transformer_blocks[0]
    assert block.attn1.processor._attention_backend is AttentionBackendName._NATIVE_FLASH
    assert block.attn2.processor._attention_backend is None


def test_a_kernel_that_is_not_installed_is_told(load: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"--engine\.attention flash3 cannot be used here"):
        load(WAN, attention="flash3")


def test_offloading_is_diffusers_own(
    load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import WanPipeline

    called: list[tuple[str, str]] = []
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "to"):
        monkeypatch.setattr(
            WanPipeline, name, lambda pipe, device, name=name: called.append((name, device))
        )
    for offload in ("model", "sequential", "none"):
        load(WAN, offload=offload)
    assert called == [
        ("enable_model_cpu_offload", "cpu"),
        ("enable_sequential_cpu_offload", "cpu"),
        ("to", "cpu"),
    ]


@pytest.mark.parametrize("name", [WAN, COG, LTX, HUNYUAN])
def test_every_family_has_blocks_to_compile(
    load: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    compiled: list[str] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **_: compiled.append(type(module).__name__)
    )
    load(name, compile=True)
    assert len(compiled) == 2
    assert all(block.endswith("Block") for block in compiled)


def test_weights_go_straight_to_a_gpu(
    load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert straight_to("cpu", EngineOptions()) == {}
    assert straight_to("cuda", EngineOptions()) == {"device_map": "cuda"}
    for needs_host in (EngineOptions(offload="model"), EngineOptions(quantise="int8")):
        assert straight_to("cuda", needs_host) == {}
    monkeypatch.setattr(load_module, "straight_to", lambda *_: {"device_map": "cpu"})
    pipe = load(WAN)
    assert pipe.hf_device_map == "cpu"
    assert not hasattr(pipe.transformer, "_hf_hook")  # placed, not dispatched at every call
