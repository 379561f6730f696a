"""The judge of captions as a scorer, for `--scorers module:Class` of any run of the demo model.

`--scorers jobs.benchmarks.demo_model.caption_judge:CaptionJudge`, from a checkout. A row may ask
for more than its prompt says: the judge holds clips to the column `wanted` where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from jobs.benchmarks.demo_model.captions import parse_caption
from jobs.benchmarks.demo_model.palette import palette_of
from pipeline.models.demo import WEIGHTS_DIR
from pipeline.scoring.scorer import ScoredClip

WANTED = "wanted"
"""Column of an input row: a whole caption."""
SCORE, RIGHT, FIT = "judge", "judge_right", "judge_fit"


class CaptionJudge:
    """Says how well clips of the sprite world show their captions.

    Its scores are `judge_right`, 1 where a clip shows all that its caption asks for and else 0;
    `judge_fit`, the overlap of the outline with the best template; and `judge`, the share of the
    attributes asked for that the clip shows, times `judge_fit`.

    Attributes:
        name: Of the scorer.
        version: Of its method.
        scores: Names of its numbers.
    """

    name = "caption-judge"
    version = "1"
    scores: tuple[str, ...] = (SCORE, RIGHT, FIT)

    def __init__(self) -> None:
        """Read the colours that the shipped weights were trained on."""
        self._palette = palette_of(WEIGHTS_DIR)

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Judge clips one by one.

        Raises:
            ValueError: A caption is none of the sprite world, or a clip is not square.
        """
        return [self._one(clip) for clip in clips]

    def _one(self, clip: ScoredClip) -> Mapping[str, float]:
        import torch  # not above: lists of commands import this module

        from jobs.benchmarks.demo_model.judge import agreement, judge

        source = json.loads(clip.row.get("source") or "{}")
        wanted = parse_caption(source.get(WANTED) or clip.caption)
        frames = torch.from_numpy(clip.frames).permute(3, 0, 1, 2).float() / 127.5 - 1
        (reading,) = judge(frames[None], self._palette)
        shown = agreement(reading, wanted)
        right = shown.pop("all")
        share = sum(shown.values()) / len(shown)
        return {SCORE: share * reading.fit, RIGHT: float(right), FIT: reading.fit}
