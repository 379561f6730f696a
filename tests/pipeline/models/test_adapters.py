"""LoRA adapters: read, hashed, added; part of the identity and of nothing without them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.engine.diffusers_engine import load_engine
from pipeline.errors import UserError
from pipeline.models.adapters import Adapter, resolve_adapters
from pipeline.models.engine_options import EngineOptions
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest

WAN, TWO_EXPERTS = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
Resolve = Callable[[str], ResolvedModel]
MakeRequest = Callable[..., SampleRequest]


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """An adapter of rank 2 for one layer of the tiny Wan."""
    generator = torch.Generator().manual_seed(0)
    layer = "transformer.blocks.0.attn1.to_v"
    path = tmp_path / "style.safetensors"
    save_file(
        {
            f"{layer}.lora_A.weight": torch.randn(2, 48, generator=generator),
            f"{layer}.lora_B.weight": torch.randn(48, 2, generator=generator),
        },
        path,
    )
    return path


def frames(
    model: ResolvedModel, request: SampleRequest, adapters: tuple[Adapter, ...]
) -> np.ndarray[Any, Any]:
    engine = load_engine(model, device="cpu", options=EngineOptions(adapters=adapters))
    ids = tuple(adapter.identity for adapter in adapters)
    (clip,) = engine.generate([dataclasses.replace(request, adapters=ids)])
    engine.close()
    return clip.frames


@pytest.mark.slow
def test_an_adapter_changes_the_clip_by_its_weight(
    lora: Path, tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    model = tiny_resolved(WAN)
    request = request_for(model)
    plain = frames(model, request, ())
    none, half, full = (
        frames(model, request, resolve_adapters([f"{lora}@{weight}"])) for weight in (0, 0.5, 1)
    )
    assert np.array_equal(none, plain)
    assert not np.array_equal(full, plain)
    assert not np.array_equal(full, half)
    twice = resolve_adapters([f"{lora}@0.5", f"{lora}@0.5"])
    assert np.abs(frames(model, request, twice).astype(int) - full).max() <= 1


@pytest.mark.slow
def test_the_second_network_has_adapters_of_its_own(
    lora: Path, tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    model = tiny_resolved(TWO_EXPERTS)
    request = request_for(model)
    first, second, plain = (
        frames(model, request, resolve_adapters(given))
        for given in ([str(lora)], [f"{lora}#transformer_2@1"], [])
    )
    assert not np.array_equal(first, plain)
    assert not np.array_equal(second, plain)
    assert not np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("biased", [False, True], ids=["weights", "weights-and-biases"])
def test_a_lora_in_the_layout_of_wan_s_authors_is_taken_for_either_network(
    biased: bool, tmp_path: Path, tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    """The public distilled LoRAs have this layout, some with changes of biases."""
    model = tiny_resolved(TWO_EXPERTS)
    generator = torch.Generator().manual_seed(0)
    config = json.loads((Path(model.location) / "transformer/config.json").read_text())
    width = config["num_attention_heads"] * config["attention_head_dim"]
    layers = {
        f"{kind}.{part}": (width, width) for kind in ("self_attn", "cross_attn") for part in "qkvo"
    }
    layers |= {"ffn.0": (config["ffn_dim"], width), "ffn.2": (width, config["ffn_dim"])}
    tensors = {}
    for block in range(config["num_layers"]):
        for name, (rows, columns) in layers.items():
            key = f"diffusion_model.blocks.{block}.{name}"
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, columns, generator=generator)
            tensors[f"{key}.lora_up.weight"] = torch.randn(rows, 2, generator=generator) / 4
            if biased:
                tensors[f"{key}.diff_b"] = torch.randn(rows, generator=generator) / 4
    path = tmp_path / "authors.safetensors"
    save_file(tensors, path)
    request = request_for(model)
    plain, first, second = (
        frames(model, request, resolve_adapters(given))
        for given in ([], [str(path)], [f"{path}#transformer_2"])
    )
    assert not np.array_equal(first, plain)
    assert not np.array_equal(second, plain)
    assert not np.array_equal(first, second)


def test_the_identity_holds_what_is_in_the_file_and_not_its_place(
    lora: Path, tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    moved = lora.with_name("moved.safetensors")
    moved.write_bytes(lora.read_bytes())
    one, other = (resolve_adapters([f"{path}@0.8"])[0].identity for path in (lora, moved))
    assert one == other
    assert one.endswith("@0.8")
    request = request_for(tiny_resolved(WAN))
    with_adapter = dataclasses.replace(request, adapters=(one,))
    assert with_adapter.sample_id != request.sample_id
    assert resolve_adapters([str(lora)])[0].weight == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{lora}@much", "'much' is not a weight"),
        ("{lora}@nan", "'nan' is not a weight"),
        ("style.pt", r"give a \.safetensors file"),
        ("nowhere/style.safetensors", r"--engine\.adapters nowhere"),
    ],
)
def test_a_bad_adapter_is_refused_on_the_driver(text: str, message: str, lora: Path) -> None:
    with pytest.raises(UserError, match=message):
        resolve_adapters([text.format(lora=lora)])


def test_an_adapter_of_another_model_is_refused(
    tmp_path: Path, lora: Path, tiny_resolved: Resolve
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"transformer.no.such.lora_A.weight": torch.ones(2, 2)}, foreign)
    model = tiny_resolved(WAN)
    with pytest.raises(UserError, match=r"--engine\.adapters .*foreign"):
        load_engine(
            model, device="cpu", options=EngineOptions(adapters=resolve_adapters([str(foreign)]))
        )
    adapters = resolve_adapters([str(lora)])
    lora.write_bytes(foreign.read_bytes())
    with pytest.raises(UserError, match="was replaced since the run began"):
        load_engine(model, device="cpu", options=EngineOptions(adapters=adapters))


def test_a_file_of_the_hub_is_read_through_its_cache(
    lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def download(repository: str, name: str, *, revision: str | None) -> str:
        asked.append((repository, name, revision))
        return str(lora)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (pinned,) = resolve_adapters(["hf://some/loras@abc123/wan/style.safetensors@0.5"])
    (newest,) = resolve_adapters(["hf://some/loras/style.safetensors#transformer_2"])
    assert asked == [
        ("some/loras", "wan/style.safetensors", "abc123"),
        ("some/loras", "style.safetensors", None),
    ]
    assert (pinned.weight, pinned.second) == (0.5, False)
    assert (newest.weight, newest.second) == (1.0, True)
    assert pinned.revision == resolve_adapters([str(lora)])[0].revision


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf://loras/style.safetensors", "write hf://OWNER/REPOSITORY"),
        ("hf://nobody/nothing/style.safetensors", "without internet: download the file"),
        ("shipped:demo/nothing.safetensors", "no such file is shipped"),
    ],
)
def test_a_file_that_the_hub_or_the_package_has_not_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_adapters([text])


@pytest.mark.parametrize("weight", ["0", "0.0", "-0"])
def test_an_adapter_of_no_weight_is_left_out(weight: str, lora: Path) -> None:
    assert resolve_adapters([f"{lora}@{weight}"]) == ()
    (kept,) = resolve_adapters([f"{lora}@{weight}", f"{lora}@0.5"])
    assert kept.weight == 0.5
    with pytest.raises(UserError, match="missing"):
        resolve_adapters([f"/missing.safetensors@{weight}"])
