"""The settings of clips in a prefix that holds several: which clip has which, in short names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline.dataset.parts import read_parts
from pipeline.report.rows import Mask, Rows
from pipeline.report.tables.clip_kinds import MOST_SETTINGS, differing, numbered_kinds
from pipeline.report.tables.document import ClipSettings
from pipeline.requests.run_settings import value_text
from pipeline.wording import counted

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """Kinds of clips, each with a name that says what sets it apart from the others.

    Attributes:
        kinds: The kinds, the most frequent first; named if there are several.
        of_row: The number of each row's kind; -1 for rows that are no clips of the dataset.
        prompts: A number for the prompt of each row; empty where there is one kind.
    """

    kinds: Sequence[ClipSettings]
    of_row: Numbers
    prompts: Numbers

    @classmethod
    def find(cls, rows: Rows, clips: Mask, seeds: Mapping[str, int]) -> Mixture:
        """Find the kinds of the clips of a dataset.

        Args:
            rows: Of the prefix.
            clips: Mask of the dataset's clips.
            seeds: The seed of each run that gave one.

        Raises:
            StorageError: A part cannot be read.
        """
        found, which = numbered_kinds(rows, clips, seeds)
        of_row = np.full(len(rows), -1, np.int64)
        of_row[clips] = which
        if len(found) < 2:
            return cls(found, of_row, np.empty(0, np.int64))
        names = short_names(found)
        named = [
            kind.model_copy(update={"name": name}) for kind, name in zip(found, names, strict=True)
        ]
        return cls(named, of_row, _prompts(rows))

    @property
    def is_mixed(self) -> bool:
        """Whether there are several kinds."""
        return len(self.kinds) > 1

    def apart(self, clips: Numbers) -> Numbers:
        """A number for each of some clips by which tables tell them apart.

        Args:
            clips: Positions of the clips.

        Returns:
            Those of their kinds; one number for all where there are too many kinds for a table.
        """
        mine = self.of_row[clips]
        return mine if len(np.unique(mine)) <= MOST_SETTINGS else np.zeros_like(mine)

    def names(self, clips: Numbers) -> list[str]:
        """The names of the kinds that some clips have, the most frequent kind first."""
        return [self.kinds[kind].name for kind in np.unique(self.of_row[clips]).tolist()]

    def without(self, clips: Numbers, compared: Numbers) -> Numbers:
        """Those of some clips whose settings none of the compared clips has.

        Sizes, steps and seeds that rows of the input set can be as many as the clips; where there
        are more kinds than a table shows, those of one run's settings count as one.
        """
        kinds = self.of_row
        if len(self.kinds) > MOST_SETTINGS:
            texts = [each.settings for each in self.kinds]
            kinds = np.array([*map(texts.index, texts), -1])[self.of_row]
        return clips[~np.isin(kinds[clips], kinds[compared])]

    def count(self, clips: Numbers) -> int:
        """The number of kinds that some clips have."""
        return len(np.unique(self.of_row[clips]))

    def name(self, clips: Numbers) -> str:
        """What to call some clips in one line of a table; "" where all clips are of one kind."""
        kinds = np.unique(self.of_row[clips]).tolist()
        if not self.is_mixed:
            return ""
        return self.kinds[kinds[0]].name if len(kinds) == 1 else f"{len(kinds)} settings together"

    def repeated_prompts(self) -> int:
        """The number of prompts that have clips of several kinds."""
        if not self.is_mixed:
            return 0
        clips = self.of_row >= 0
        pairs = np.unique(np.stack([self.prompts[clips], self.of_row[clips]]), axis=1)
        return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())

    def repeats_of_others(self, groups: Sequence[Sequence[int]]) -> int:
        """How many clips look like an earlier one of the same prompt and of another kind.

        Args:
            groups: Positions of clips that look alike, in the order in which they were made.
        """
        if not self.is_mixed:
            return 0
        found = 0
        for group in groups:
            seen: defaultdict[int, set[int]] = defaultdict(set)
            for clip in group:
                kinds = seen[int(self.prompts[clip])]
                found += bool(kinds - {int(self.of_row[clip])})
                kinds.add(int(self.of_row[clip]))
        return found


def short_names(found: Sequence[ClipSettings]) -> list[str]:
    """Name each kind by what differs between the kinds alone."""
    differ = differing(found)
    texts = _own_words([kind.settings for kind in found])
    names = []
    for kind, text in zip(found, texts, strict=True):
        # Without commas, because names stand in lists.
        first, *others = _pieces(kind, text, differ)
        names.append(f"{first} with {' and '.join(others)}" if others else first)
    return names


def _pieces(kind: ClipSettings, text: str, differ: Mapping[str, str]) -> list[str]:
    second = kind.guidance_scale_2
    written: dict[str, str] = {
        "settings": text or "settings that were not recorded",
        "model": kind.model,
        "policy": kind.policy,
        "width": f"{kind.width}x{kind.height}",
        "num_frames": counted(kind.num_frames, "frame"),
        "fps": f"{kind.fps} fps",
        "steps": counted(kind.steps, "step"),
        "guidance_scale": f"guidance {kind.guidance_scale:g}",
        "guidance_scale_2": "no second guidance" if second is None else f"and {second:g}",
        "negative_prompt": f"negative prompt {value_text(kind.negative_prompt)}",
        "seed": f"seed {'of row or prompt' if kind.seed is None else kind.seed}",
    }
    names = {"width" if name == "height" else name for name in differ}
    return [said for name, said in written.items() if name in names]


def _own_words(texts: Sequence[str]) -> list[str]:
    """Settings without the words that all have; the hash only where nothing else differs."""
    words = [text.split() for text in texts]
    common = set(words[0]).intersection(*words[1:])
    own = [[word for word in each if word not in common] for each in words]
    bare = [" ".join(word for word in each if not word.startswith("#")) for each in own]
    different = len(set(bare)) == len(set(texts)) and all(bare)
    return bare if different else [" ".join(each) for each in own]


def _prompts(rows: Rows) -> Numbers:
    """A number for the prompt of each row: equal for equal prompts."""

    def read(file: Any, _: Any) -> Numbers:
        captions = pq.ParquetFile(file).read(columns=["caption"], use_threads=False)["caption"]
        return np.array([hash(text) for text in captions.to_pylist()], np.int64)

    found = list(read_parts(rows.storage, rows.files, read))
    parts, at = (rows.table[name].to_numpy() for name in ("part", "at"))
    begins = np.cumsum([0, *(len(each) for each in found)])
    return np.concatenate(found)[begins[parts] + at] if found else np.empty(0, np.int64)
