"""The student: the teacher's denoiser with a LoRA on its linear layers, and the LoRA's file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

_PREFIX = "transformer."


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight.

    The sum is formed once per call, so a training step costs what it costs without the LoRA.

    Attributes:
        down: ``(rank, in_features)``; `lora_A` in files.
        up: ``(out_features, rank)``; `lora_B` in files. It begins as zeros.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        """Draws the first weights; the sum then equals the original weight."""
        super().__init__()
        rows, columns = weight.shape
        rank = min(rank, rows, columns)
        start = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.down = nn.Parameter(start)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight with the product added."""
        return weight + self.up @ self.down


def add_low_rank(network: nn.Module, rank: int, seed: int) -> dict[str, LowRank]:
    """Freezes a network and puts a LoRA on each of its linear layers.

    Args:
        network: The denoiser; changed in place.
        rank: Rank; smaller where a layer is thinner.
        seed: Seed of the first weights.

    Returns:
        The LoRA of each layer, by the layer's name.
    """
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    added = {}
    layers = [
        (name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)
    ]
    for name, layer in layers:
        added[name] = LowRank(layer.weight, rank, generator)
        parametrize.register_parametrization(layer, "weight", added[name])
    return added


def save_adapter(adapter: dict[str, LowRank], path: Path) -> None:
    """Saves a LoRA in the layout of diffusers, in half precision.

    Args:
        adapter: From `add_low_rank`.
        path: The safetensors file.
    """
    tensors = {}
    for name, layer in adapter.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = layer.down.detach().half().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = layer.up.detach().half().contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
