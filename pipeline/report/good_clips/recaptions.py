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
    failed = captions.parts.filter(pc.not_equal(captions.parts["error"], ""))
    last = {  # of several reasons the newest one stays
        (row["sample_id"], row["media_sha256"]): row["error"]
        for row in failed.sort_by("captioned_at").to_pylist()
    }
    by: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    without = 0
    for table in clip_rows(storage, read_stored(storage)):
        clips = captions.over(table.filter(pc.equal(table["control_of"], "").fill_null(True)))
        described = pc.not_equal(clips["recaptioner"], "").fill_null(False)
        by.update(clips["recaptioner"].filter(described).to_pylist())
        rest = clips.filter(pc.invert(described))
        without += rest.num_rows
        ids = zip(rest["sample_id"].to_pylist(), rest["media_sha256"].to_pylist(), strict=True)
        reasons.update(last[clip] for clip in ids if clip in last)
    frequent = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return Recaptions(
        captioners=[CaptionerUsed(captioner=c, clips=count) for c, count in sorted(by.items())],
        without=without,
        missing=[MissingRecaptions(reason=r, clips=n) for r, n in frequent[:MOST_REASONS]],
        caption_s=sum(captions.parts["caption_s"].to_pylist()),
    )
