"""What a model family tells the rest of the pipeline: one frozen object per family.

Modules that load, sample, split or check a model ask this object and never compare the family's
name. Imports neither torch nor diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Backend = Literal["xfuser", "context_parallel"]
SplitKind = Literal["ulysses", "ring"]

ULYSSES_ONLY: tuple[SplitKind, ...] = ("ulysses",)
ULYSSES_AND_RING: tuple[SplitKind, ...] = ("ulysses", "ring")
"""The two kinds also combine: USP = Ulysses x ring."""

AttentionLayers = tuple[Any, Any, Any, Any, Any]
"""Layers of one stream of tokens: to_q, to_k, to_v, norm_q, norm_k; a norm can be None."""


@dataclass(frozen=True)
class JointAttention:
    """How to split a network whose attention joins text and video tokens.

    Attributes:
        attention: Attribute of each block that holds its attention.
        layers: From an attention module to its layers for video and its layers for text.
        project_out: From an attention module, the video output and the text output, both of shape
            [rows, tokens, channels], to the outputs behind its last layers.
        split_positions: Has each rank get the rotary embeddings of its own tokens: called with the
            network, and with a function that takes this rank's part of a tensor's first dimension.
    """

    attention: str
    layers: Callable[[Any], tuple[AttentionLayers, AttentionLayers]]
    project_out: Callable[[Any, Any, Any], tuple[Any, Any]]
    split_positions: Callable[[Any, Callable[[Any], Any]], None]


@dataclass(frozen=True)
class ModelFamily:
    """A transformer family: its samplers, and how it runs on devices; picklable.

    Attributes:
        name: As `sencache` names the family.
        samplers: Diffusers scheduler classes that predict what the network was trained to give.
            Each evaluates the network once per step, which the step counts of a row rely on (Heun
            would evaluate it twice).
        random_samplers: Samplers that draw noise at every step. Nothing can tell how an output
            changes the finished clip then, so no cache schedule can be planned for them.
        scheduler_settings: Settings of the samplers, which then take no flow shift. None for a
            flow-matching family, whose settings follow from the shift (`pipeline.models.samplers`).
        attention_kernels: The `--engine.attention` choices that serve the network; empty for all.
        default_attention: Ends of the names of attention modules that keep the default kernel.
        splits: The backends that can split the network, the preferred one first, and the kinds of
            sequence parallelism of each. `tests/pipeline/parallel` compares each with one rank.
        joint: How to split joint attention; None where diffusers' context parallelism serves.
        xfuser_network: xfuser's transformer class, as `module:class`.
        shares_decoder: DistVAE can decode on several ranks.
    """

    name: str
    samplers: tuple[str, ...]
    random_samplers: tuple[str, ...] = ()
    scheduler_settings: Mapping[str, Any] | None = field(default=None, hash=False)
    attention_kernels: tuple[str, ...] = ()
    default_attention: tuple[str, ...] = ()
    splits: Mapping[Backend, tuple[SplitKind, ...]] = field(default_factory=dict, hash=False)
    joint: JointAttention | None = None
    xfuser_network: str = ""
    shares_decoder: bool = False

    def precision(self, dtype: str) -> dict[str, str]:
        """Torch dtype name of each part of a pipeline, after the authors' diffusers examples.

        Args:
            dtype: Torch dtype name that was asked for.

        Returns:
            By attribute of the pipeline; `default` for all parts that are not named.
        """
        return {"default": dtype}

    def tokens(self, network: Any, latents: Sequence[int]) -> int:
        """Video tokens of a clip in the network.

        Args:
            network: A diffusers transformer.
            latents: Shape of the latents that it is called with; packed ones are
                [rows, tokens, channels].
        """
        return latents[1]

    def context_parallel_plan(self, network: Any) -> Mapping[str, Any]:
        """Where diffusers' context parallelism splits and gathers tokens, by module name."""
        plan: Mapping[str, Any] = network._cp_plan
        return plan
