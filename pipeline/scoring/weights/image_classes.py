"""Scorer `image-classes`: probabilities of the labels of an image classifier, such as NSFW ones."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import UserError
from pipeline.scoring.scorer import ScoredClip
from pipeline.scoring.weights.source import WeightsSource, spread_frames

MOST_LABELS = 32
"""More labels would make a row unreadable."""


class ImageClassesScorer:
    """Probabilities of labels over 8 evenly spread frames.

    `class_LABEL` is the mean over frames, and `class_LABEL_max` the greatest, which tells of a
    label in a few frames. Labels are lower case with `_` in place of other characters. The
    probabilities add up to 1, or are independent where the model says that several labels hold at
    once (`problem_type`).
    """

    name = "image-classes"

    def __init__(self, argument: str = "") -> None:
        """Take a classifier: a folder or a Hub id, as `Falconsai/nsfw_image_detection`, `:cuda`.

        Raises:
            UserError: The model cannot be read, or has too many labels.
        """
        self._source = WeightsSource.parse(self.name, argument)
        config = self._source.config()
        labels = [str(label) for _, label in sorted(config.id2label.items())]
        if len(labels) > MOST_LABELS:
            raise UserError(
                f"{self._source.flag}: has {len(labels)} labels; it should have at most "
                f"{MOST_LABELS}"
            )
        self._names = [f"class_{re.sub(r'[^0-9a-z]+', '_', one.lower())}" for one in labels]
        self.scores = tuple(each for name in self._names for each in (name, f"{name}_max"))
        self._several = config.problem_type == "multi_label_classification"
        self.version = self._source.version()
        self._lock = threading.Lock()

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip) for clip in clips]

    def _one(self, clip: ScoredClip) -> Mapping[str, float]:
        import torch

        with self._lock, torch.inference_mode():
            images = spread_frames(clip.frames)
            pixels = self._images(images=images, return_tensors="pt").to(self._source.device)
            logits = self._model(**pixels).logits.float()
        shares = (logits.sigmoid() if self._several else logits.softmax(dim=-1)).cpu().numpy()
        found = {name: float(shares[:, at].mean()) for at, name in enumerate(self._names)}
        return found | {f"{n}_max": float(shares[:, at].max()) for at, n in enumerate(self._names)}

    @functools.cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageClassification

        return self._source.load(AutoModelForImageClassification)

    @functools.cached_property
    def _images(self) -> Any:
        from transformers import AutoImageProcessor

        return self._source.load_part(AutoImageProcessor)
