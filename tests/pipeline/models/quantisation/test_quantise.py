"""Quantised weights: which parts, how near they stay, and what refuses them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config.sections import EngineConfig, StagesConfig
from pipeline.errors import UserError
from pipeline.models.adapters import resolve_adapters
from pipeline.models.engine_options import EngineOptions, settle_options
from pipeline.models.load import load_pipeline
from pipeline.models.quantisation.quantise import Quantise, check_quantise, quantise_network
from pipeline.models.registry import MODELS, get_model
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.layout import ALONE, ParallelLayout
from sencache import networks_of

WAN, TWO_EXPERTS = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
HUB_MODELS = [name for name, spec in MODELS.items() if spec.hub_id]

Resolve = Callable[[str], ResolvedModel]


@pytest.fixture
def torchao() -> None:
    pytest.importorskip("torchao", reason="the extra quantize")


def quantised(network: torch.nn.Module) -> set[str]:
    """Names of the weights that are not plain tensors."""
    return {
        name for name, value in network.named_parameters() if type(value.data) is not torch.Tensor
    }


@pytest.mark.parametrize("name", HUB_MODELS)
def test_linear_weights_of_the_networks_alone_are_quantised(
    name: str, torchao: None, tiny_resolved: Resolve
) -> None:
    pipe = load_pipeline(tiny_resolved(name), "cpu", options=EngineOptions(quantise="int8"))
    for network in networks_of(pipe).values():
        kept = tuple(getattr(network, "_keep_in_fp32_modules", None) or ())
        linear = {
            f"{at}.weight"
            for at, module in network.named_modules()
            if isinstance(module, torch.nn.Linear) and not any(f"{k}." in f"{at}." for k in kept)
        }
        assert linear
        assert quantised(network) == linear
    others = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for part in others:
        if part not in networks_of(pipe).values():
            assert quantised(part) == set()


@pytest.mark.parametrize(("how", "levels"), [("int8", 127), ("fp8", 8)])
def test_a_weight_moves_by_half_a_step_of_its_scale_at_most(
    how: Quantise, levels: int, torchao: None, tiny_resolved: Resolve
) -> None:
    model = tiny_resolved(WAN)
    plain = dict(load_pipeline(model, "cpu").transformer.named_parameters())
    network = load_pipeline(model, "cpu", options=EngineOptions(quantise=how)).transformer
    for name in quantised(network):
        weight: Any = network.get_parameter(name)
        off = (weight.dequantize() - plain[name]).abs()
        if how == "int8":  # even steps, 127 of them up to the largest weight of an output channel
            step = plain[name].abs().amax(dim=1, keepdim=True) / levels
        else:  # three bits of mantissa: 8 steps between two powers of 2, and even steps near 0
            largest = plain[name].abs().amax(dim=1, keepdim=True)
            step = torch.maximum(plain[name].abs() / levels, largest / 448 * 2.0**-9)
        assert bool((off <= 0.5 * step * 1.001).all())
        assert off.max() > 0


def test_memory_of_the_weights_shrinks(torchao: None, tiny_resolved: Resolve) -> None:
    pipe = load_pipeline(tiny_resolved(WAN), "cpu", options=EngineOptions(quantise="int8"))
    names = quantised(pipe.transformer)
    for name in names:
        weight: Any = pipe.transformer.get_parameter(name)
        assert weight.qdata.element_size() == 1
        assert weight.qdata.numel() == weight.numel()


def test_adapters_are_merged_before_weights_are_quantised(
    torchao: None, tiny_resolved: Resolve, tmp_path: Path
) -> None:
    layer = "blocks.0.attn1.to_v"
    generator = torch.Generator().manual_seed(0)
    lora_a = torch.randn(2, 48, generator=generator)
    lora_b = torch.randn(48, 2, generator=generator)
    path = tmp_path / "style.safetensors"
    save_file(
        {
            f"transformer.{layer}.lora_A.weight": lora_a,
            f"transformer.{layer}.lora_B.weight": lora_b,
        },
        path,
    )
    model = tiny_resolved(WAN)
    before = load_pipeline(model, "cpu").transformer.get_parameter(f"{layer}.weight")
    options = EngineOptions(quantise="int8", adapters=resolve_adapters([f"{path}@0.5"]))
    network = load_pipeline(model, "cpu", options=options).transformer
    weight: Any = network.get_parameter(f"{layer}.weight")
    wanted = before + 0.5 * lora_b @ lora_a
    step = wanted.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((weight.dequantize() - wanted).abs() <= 0.501 * step).all())


def test_two_networks_are_both_quantised(torchao: None, tiny_resolved: Resolve) -> None:
    pipe = load_pipeline(tiny_resolved(TWO_EXPERTS), "cpu", options=EngineOptions(quantise="fp8"))
    assert quantised(pipe.transformer) == quantised(pipe.transformer_2) != set()


def test_an_old_gpu_has_no_eight_bit_floats(monkeypatch: pytest.MonkeyPatch, torchao: None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(UserError, match=r"fp8 needs .* 8\.9 or more .* A100 has 8\.0: use int8"):
        quantise_network(torch.nn.Linear(4, 4), "fp8", torch.device("cuda"))


@pytest.mark.parametrize(("how", "library"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_library_that_is_missing_is_named(
    how: Quantise, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{how} needs {library}, which is not installed: pip"):
        check_quantise(how, "cuda")
    check_quantise("none", "cuda")


@pytest.mark.parametrize(
    ("settings", "layout", "device", "controls", "message"),
    [
        ({"quantize": "nf4"}, ALONE, "cpu", False, "nf4 needs a GPU .*: use int8"),
        ({"quantize": "int8"}, ParallelLayout(ulysses=2), "cuda", False, "one GPU .*degree 1"),
        ({"quantize": "fp8", "offload": "sequential"}, ALONE, "cuda", False, "offload model"),
        ({"quantize": "int8", "offload": "model"}, ALONE, "cuda", True, "--control-fraction 0"),
    ],
)
def test_what_does_not_go_together_is_refused(
    settings: dict[str, Any],
    layout: ParallelLayout,
    device: str,
    controls: bool,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    config, spec = EngineConfig(**settings), get_model(WAN)
    with pytest.raises(UserError, match=message):
        settle_options(config, StagesConfig(), spec, layout, device, controls=controls)


def test_what_goes_together_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    spec = get_model(WAN)
    offload = settle_options(
        EngineConfig(quantize="nf4", offload="model"), StagesConfig(), spec, ALONE, "cuda"
    )
    assert offload == EngineOptions(quantise="nf4", offload="model")
    config = EngineConfig(quantize="int8")
    assert settle_options(config, StagesConfig(), spec, ALONE, "cpu", controls=True).keeps_full
    assert not settle_options(config, StagesConfig(), spec, ALONE, "cpu").keeps_full
    assert not settle_options(
        EngineConfig(), StagesConfig(), spec, ALONE, "cpu", controls=True
    ).keeps_full
