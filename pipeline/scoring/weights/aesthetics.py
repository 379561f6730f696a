"""Scorer `aesthetics`: how pleasing frames are, by a head on CLIP's embedding of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, message_of
from pipeline.scoring.scorer import ScoredClip
from pipeline.scoring.weights.source import Embedder, WeightsSource, content_hash, spread_frames

Layer = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


class AestheticsScorer:
    """Output of a linear head on normalised image embeddings, mean over 8 evenly spread frames.

    The head is one safetensors file in the layout of LAION's predictors: `weight` and `bias`, or
    the linear layers `layers.N.weight` and `layers.N.bias` in the order of N, without activations
    between them. LAION publishes heads for CLIP ViT-L/14 (scores of about 1 to 10) as pickles;
    convert one with `safetensors.torch.save_file(torch.load(FILE, weights_only=True), TARGET)`.
    """

    name = "aesthetics"
    scores = ("aesthetics",)

    def __init__(self, argument: str = "") -> None:
        """Take a CLIP model and a head: `FOLDER_OR_HUB_ID[:cuda]+HEAD.safetensors`.

        Raises:
            UserError: One of them cannot be read, or they do not fit together.
        """
        model, plus, head = argument.rpartition("+")
        if not plus:
            raise UserError(
                f"--scorers {self.name}={argument}: should be {self.name}=MODEL+HEAD.safetensors"
            )
        flag = f"--scorers {self.name}={argument}"
        self._model = Embedder(WeightsSource.parse(self.name, model))
        self._layers = _read_head(Path(head), flag)
        self.version = f"{self._model.version}+{content_hash([Path(head)])}"

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip) for clip in clips]

    def _one(self, clip: ScoredClip) -> Mapping[str, float]:
        values = self._model.images(spread_frames(clip.frames))
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return {"aesthetics": float(values.mean())}


def _read_head(path: Path, flag: str) -> list[Layer]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{flag}: cannot read {path}: {message_of(error)}") from error
    names = sorted(
        (name.removesuffix("weight") for name in found if name.endswith("weight")),
        key=lambda name: int(name.split(".")[-2]) if "." in name else 0,
    )
    layers = [(found[f"{name}weight"], found[f"{name}bias"]) for name in names]
    if not layers or layers[-1][0].shape[0] != 1:
        raise UserError(
            f"{flag}: {path} is no head: it should hold weight and bias, or layers.N.weight and "
            "layers.N.bias, with one output"
        )
    return layers
