"""What the scores of the package's own scorers mean, in a line each; docs/scores.md says more."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "black": "share of frames that are black; lower is better",
    "saturation": "strength of the colours, 0 to 1; near 0 is grey, and neither end is better",
    "clipped": "share of pixels that are too bright or too dark to show detail; lower is better",
    "flicker": "change of brightness back and forth between frames, 0 to 1; lower is better",
    "motion": "optical flow, in diagonals of the frame per second; higher moves more, 0 is a still",
    "warping_error": "what movement does not explain between frames, 0 to 1; lower is better",
    "frozen": "longest run of repeated frames, as a share of the clip; lower is better",
    "cuts": "number of hard cuts; 0 is one shot",
    "sharpness": "steepest edge, 0 to 1; higher is sharper, and noise is sharp too",
    "blockiness": "visible borders of 8 x 8 blocks, 0 without any; lower is better",
    "text_alignment": "how well frames fit the caption, mean over frames; higher is better",
    "text_alignment_min": "how well the frame that fits least fits the caption; higher is better",
    "aesthetics": "how pleasing frames are to the model's raters; higher is better",
    "visual_quality": "0 to 5, by a vision-language model; higher is better",
    "text_to_video_alignment": "0 to 5, how well the clip fits its prompt; higher is better",
    "physical_consistency": "0 to 5, physics and common sense; higher is better",
}
"""Score to what it measures and which direction is better."""

CLASS = "class_"
GREATEST = "_max"


def meaning(score: str) -> str:
    """What a score measures and which direction is better; "" for scores of other scorers."""
    if score in MEANINGS:
        return MEANINGS[score]
    if score.startswith(CLASS):
        over = "the greatest" if score.endswith(GREATEST) else "the mean"
        return f"probability of this label, {over} over frames; what is better depends on the label"
    return ""
