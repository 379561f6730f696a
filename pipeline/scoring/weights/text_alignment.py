"""Scorer `text-alignment`: how well frames match the caption, by CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.scoring.scorer import ScoredClip
from pipeline.scoring.weights.source import Embedder, WeightsSource, spread_frames


class TextAlignmentScorer:
    """Similarity of a caption and 8 evenly spread frames.

    `text_alignment` is the mean over frames of 100 times the cosine of the embeddings of frame and
    caption (the CLIPSIM of Wu et al. 2021, GODIVA), and `text_alignment_min` is the least of them.
    Captions are cut to what the model reads: 77 tokens of CLIP, 64 of SigLIP.
    """

    name = "text-alignment"
    scores = ("text_alignment", "text_alignment_min")

    def __init__(self, argument: str = "") -> None:
        """Take a model: a folder or a Hub id, as `openai/clip-vit-base-patch32`, and `:cuda`.

        Raises:
            UserError: The model cannot be read, or embeds no images and texts.
        """
        self._model = Embedder(WeightsSource.parse(self.name, argument))
        self.version = self._model.version

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip) for clip in clips]

    def _one(self, clip: ScoredClip) -> Mapping[str, float]:
        images = self._model.images(spread_frames(clip.frames))
        each = 100 * images @ self._model.text(clip.caption)
        return {"text_alignment": float(each.mean()), "text_alignment_min": float(each.min())}
