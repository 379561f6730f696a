"""Captions the clips of an existing prefix; the same call again goes on.

No captioner describes a clip twice: clips that have a caption by the same `name@version` are left
out. A clip that got none is tried again. Clips are read and described by a function that the caller
gives, on a cluster (`pipeline.cluster.clip_stage`) or here.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.captioner import Captioner, identity
from pipeline.captioning.stored_captions import StoredCaptions, write_captions
from pipeline.scoring.score_prefix import clip_rows, in_parts
from pipeline.scoring.stored_scores import read_stored
from pipeline.storage.storage import Storage

CaptionClips = Callable[[pa.Table], Iterable[pa.Table]]
"""From rows of `SCHEMA` to tables of `CAPTION_SCHEMA`, in any order."""


@dataclass(slots=True)
class CaptionedPrefix:
    """What became of the clips of a prefix.

    Attributes:
        clips: Clips of the dataset; controls are none.
        not_good: Those that were left out because they are not good, or not judged.
        before: Those that the captioner had described already.
        captioned: Those that it described now.
        failed: Clips that got no caption, by reason.
        caption_s: Seconds of reading and describing clips.
    """

    clips: int = 0
    not_good: int = 0
    before: int = 0
    captioned: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    caption_s: float = 0.0

    @property
    def wanted(self) -> int:
        """Clips that had no caption before."""
        return self.clips - self.not_good - self.before


def caption_prefix(
    storage: Storage,
    captioner: Captioner,
    caption: CaptionClips,
    stored: StoredCaptions,
    *,
    only_good: bool = False,
    progress: Callable[[CaptionedPrefix], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> CaptionedPrefix:
    """Give every clip the caption that it lacks, and store captions as they come.

    Args:
        storage: The output prefix.
        captioner: Describes clips; asked here for its name and version alone.
        caption: Reads and describes clips.
        stored: The captions that the prefix holds already.
        only_good: Leave out clips that do not meet the last `--keep`.
        progress: Called after each part that is stored.
        clock: Monotonic seconds.

    Raises:
        UserError: The prefix holds no parts.
        StorageError: The prefix cannot be read or written.
    """
    done = CaptionedPrefix()
    lacking: list[pa.Table] = []
    for table in clip_rows(storage, read_stored(storage)):
        table = table.filter(pc.equal(table["control_of"], "").fill_null(True))
        done.clips += table.num_rows
        if only_good:
            rows = table.num_rows
            table = table.filter(table["good"].fill_null(False))
            done.not_good += rows - table.num_rows
        left = table.filter(pc.invert(stored.described(table, identity(captioner))))
        done.before += table.num_rows - left.num_rows
        if left.num_rows:
            lacking.append(left)
    if not lacking:
        return done
    session = secrets.token_hex(4)
    for number, table in enumerate(in_parts(caption(pa.concat_tables(lacking)), clock)):
        write_captions(storage, f"{session}-{number:05d}", table.to_pylist())
        reasons = [reason for reason in table["error"].to_pylist() if reason]
        done.failed.update(reasons)
        done.captioned += table.num_rows - len(reasons)
        done.caption_s += sum(table["caption_s"].to_pylist())
        progress(done)
    return done
