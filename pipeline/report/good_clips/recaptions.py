"""Which captioners described the clips of a dataset, and why clips have no new caption."""

from __future__ import annotations

from collections import Counter

import pyarrow.compute as pc
from pydantic import Field

from pipeline.captioning.stored_captions import PARTS, read_captions
from pipeline.report.base import ReportPart
from pipeline.report.rows import Rows
from pipeline.scoring.score_prefix import clip_rows
from pipeline.scoring.stored_scores import read_stored

MOST_REASONS = 5


class CaptionerUsed(ReportPart):
    """A captioner in one version."""

    captioner: str = Field(description="name@version")
    clips: int = Field(description="clips whose new caption is by it")


class MissingRecaptions(ReportPart):
    """Clips that a captioner was asked about and that have no new caption, for one reason."""

    reason: str
    clips: int


class Recaptions(ReportPart):
    """Captions that were written from the frames of the dataset's clips."""

    captioners: list[CaptionerUsed]
    without: int = Field(description="clips without a new caption, asked about or not")
    missing: list[MissingRecaptions] = Field(description="the most frequent reasons")
    caption_s: float = Field(description="seconds of reading and describing clips, failures too")


def measure_recaptions(rows: Rows) -> Recaptions | None:
    """Count the new captions of the clips of a dataset; None if no captioner was ever asked.

    Args:
        rows: Of the prefix.

    Raises:
        StorageError: A file cannot be read, or is not ours.
    """
    storage = rows.storage
    if not storage.list(PARTS):
        return None
    captions = read_captions(storage)
    by: Counter[str] = Counter()
    without: set[tuple[str, str]] = set()
    for table in clip_rows(storage, read_stored(storage)):
        clips = captions.over(table.filter(pc.equal(table["control_of"], "")))
        names = ("sample_id", "media_sha256", "recaptioner")
        for sample_id, sha256, captioner in zip(
            *(clips[name].to_pylist() for name in names), strict=True
        ):
            if captioner:
                by[captioner] += 1
            else:
                without.add((sample_id, sha256))
    last = {
        (row["sample_id"], row["media_sha256"]): row["error"]
        for row in captions.parts.sort_by("captioned_at").to_pylist()
    }
    reasons = Counter(last[clip] for clip in without if clip in last)
    frequent = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return Recaptions(
        captioners=[CaptionerUsed(captioner=c, clips=count) for c, count in sorted(by.items())],
        without=len(without),
        missing=[MissingRecaptions(reason=r, clips=n) for r, n in frequent[:MOST_REASONS]],
        caption_s=sum(captions.parts["caption_s"].to_pylist()),
    )
