"""The networks of a quantised pipeline in full precision, for its controls.

What quantising costs can only be measured against the weights as they are, and those cannot be had
back from quantised ones. So an engine that makes controls loads the networks twice. The copy that
does not sample waits in host memory, so a device must hold one of the two at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline.models.engine_options import EngineOptions
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from sencache import networks_of


class FullPrecision:
    """Networks in full precision, in host memory while they do not sample."""

    def __init__(self, networks: Mapping[str, torch.nn.Module]) -> None:
        """Take over loaded networks.

        Args:
            networks: By attribute of the pipeline; all of its denoising networks.
        """
        self._networks = dict(networks)
        for network in self._networks.values():
            network.to("cpu")

    @classmethod
    def load(
        cls, model: ResolvedModel, device: str, dtype: str, options: EngineOptions
    ) -> FullPrecision:
        """Load the networks of a model as its unquantised pipeline holds them.

        They are on the device once, so a device that cannot hold them is found out at the start.

        Args:
            model: From `resolve_model`.
            device: Torch device on which they are to sample.
            dtype: Torch dtype name; "" for the model's own.
            options: Of the engine; adapters are merged and attention is set as in the engine.

        Raises:
            UserError: The weights cannot be loaded, or do not fit into the device's memory.
        """
        alone = dataclasses.replace(model, parts="networks")
        plain = dataclasses.replace(options, quantise="none")
        return cls(networks_of(load_pipeline(alone, device, dtype, options=plain)))

    @contextlib.contextmanager
    def in_place(self, pipe: Any, device: torch.device) -> Iterator[None]:
        """Within the block, the pipeline samples with the networks in full precision.

        Enter it before a cache is applied.

        Args:
            pipe: The pipeline with quantised networks, without offload.
            device: Where it samples.
        """
        quantised = dict(networks_of(pipe))
        try:
            _swap(pipe, self._networks, quantised, device)
            yield
        finally:
            _swap(pipe, quantised, self._networks, device)


def _swap(
    pipe: Any,
    taken: Mapping[str, torch.nn.Module],
    idle: Mapping[str, torch.nn.Module],
    device: torch.device,
) -> None:
    """Put networks into a pipeline and on its device, after the others have left the device."""
    for network in idle.values():
        network.to("cpu")
    for name, network in taken.items():
        setattr(pipe, name, network.to(device))
