"""What an export says where its clips were made with several settings, and how to pick one.

A prefix takes clips of any settings. A trainer that reads an export of it sees one dataset, so the
export counts the clips of each kind, and names the condition (`--where`) that exports it alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.export.spool import Spool
from pipeline.report.tables.clip_kinds import (
    MOST_NEGATIVES,
    MOST_SETTINGS,
    differing,
    said_kind,
)
from pipeline.report.tables.document import ClipSettings
from pipeline.wording import counted

_KEYS: Mapping[str, str] = {
    "settings": "coalesce(settings, '')",
    "model": "coalesce(model, '')",
    "policy": "coalesce(cache.policy, '')",
    "steps": "coalesce(num_inference_steps, 0)",
    "guidance_scale": "coalesce(guidance_scale, 0)",
    "guidance_scale_2": "guidance_scale_2",
    "width": "coalesce(width, 0)",
    "height": "coalesce(height, 0)",
    "num_frames": "coalesce(num_frames, 0)",
    "fps": "coalesce(fps, 0)",
    "negative_prompt": "negative_prompt",
    "seed": "of_run.seed",
}
"""What tells kinds of clips apart, and its SQL over chosen rows; those of the report's table."""

_FROM = """
from chosen left join (select unnest($runs::varchar[]) as run_id, unnest($seeds::varchar[]) as seed)
    as of_run using (run_id)
where coalesce(control_of, '') = '' and not list_contains($lost::varchar[], sample_id)
"""

_CONDITIONS: Sequence[tuple[str, str]] = (
    ("model", "model"),
    ("policy", "cache.policy"),
    ("steps", "num_inference_steps"),
    ("width", "width"),
    ("height", "height"),
    ("num_frames", "num_frames"),
    ("fps", "fps"),
    ("guidance_scale", "guidance_scale"),
    ("guidance_scale_2", "guidance_scale_2"),
    ("settings", "settings"),
    ("seed", "seed_u64"),
    ("negative_prompt", "negative_prompt"),
)
"""What a condition can ask for, the easiest to read first, and its column."""


@dataclass(frozen=True, slots=True)
class ExportedSettings:
    """The kinds of clips that an export holds.

    Attributes:
        kinds: The clips of each, the most frequent first.
        conditions: What `--where` takes to export each alone; "" where no condition can.
        prompts: Prompts that have clips of more than one kind.
    """

    kinds: tuple[ClipSettings, ...] = ()
    conditions: tuple[str, ...] = ()
    prompts: int = 0

    @property
    def is_mixed(self) -> bool:
        """Whether there is more than one kind."""
        return len(self.kinds) > 1

    def record(self) -> list[dict[str, Any]]:
        """The kinds as the record of an export keeps them; none if all clips are alike."""
        if not self.is_mixed:
            return []
        differ = differing(self.kinds)
        return [
            {"clips": kind.clips, "what": said_kind(kind, differ), "where": condition}
            for kind, condition in zip(self.kinds, self.conditions, strict=True)
        ]

    def heading(self) -> str:
        """How many kinds there are, in a sentence."""
        same = ""
        if self.prompts:
            has = "has" if self.prompts == 1 else "have"
            prompts = counted(self.prompts, "prompt", grouped=True)
            same = f", and {prompts} {has} clips of more than one"
        return f"The clips were made with {len(self.kinds)} different settings{same}."

    def lines(self, flag: Callable[[str], str], said: Callable[[str], str] = str) -> list[str]:
        """The kinds in a line each, with the flag that picks one.

        Args:
            flag: Writes the flag of a condition.
            said: Writes what a kind is.
        """
        lines = [
            f"{counted(each['clips'], 'clip', grouped=True)} of {said(each['what'])}"
            + (f": {flag(each['where'])}" if each["where"] else "")
            for each in self.record()[:MOST_SETTINGS]
        ]
        if (more := len(self.kinds) - MOST_SETTINGS) > 0:
            lines.append(f"and {counted(more, 'more kind')}; export.json has all")
        return lines


def exported_settings(spool: Spool, lost: Collection[str] = ()) -> ExportedSettings:
    """Count the chosen clips of each kind of settings, controls left out.

    Args:
        spool: Holds the rows.
        lost: Ids of the clips that are left out of the export.
    """
    keys = dict(_KEYS)
    given: dict[str, Any] = {
        "runs": [*spool.seeds],
        "seeds": [str(seed) for seed in spool.seeds.values()],
        "lost": sorted(lost),
    }
    ((negatives,),) = spool.ask(f"select count(distinct negative_prompt) {_FROM}", given)
    if negatives > MOST_NEGATIVES:  # texts of the rows, and no settings of runs
        keys["negative_prompt"] = "null"
    each = ", ".join(f"{sql} as {name}" for name, sql in keys.items())
    nfe = "count(*) as clips, coalesce(avg(cache.nfe), 0) as nfe_mean"
    found = spool.ask(f"select {', '.join(keys.values())}, {nfe} {_FROM} group by all", given)
    names = (*keys, "clips", "nfe_mean")
    kinds = [ClipSettings.model_validate(dict(zip(names, row, strict=True))) for row in found]
    kinds.sort(key=lambda kind: (-kind.clips, kind.settings, kind.steps, kind.model_dump_json()))
    if len(kinds) < 2:
        return ExportedSettings(tuple(kinds), ("",) * len(kinds))
    several = f"select caption from (select distinct caption, {each} {_FROM}) group by all"  # noqa: S608
    query = f"select count(*) from ({several} having count(*) > 1)"  # noqa: S608
    ((prompts,),) = spool.ask(query, given)
    return ExportedSettings(tuple(kinds), tuple(_conditions(kinds)), int(prompts))


def _conditions(kinds: Sequence[ClipSettings]) -> list[str]:
    """The condition that picks each kind, by as few columns as tell all of them apart."""
    differ = [
        (name, column)
        for name, column in _CONDITIONS
        if len({getattr(kind, name) for kind in kinds}) > 1
        # A seed of the row or of the prompt is another one in each clip.
        and not (name == "seed" and any(kind.seed is None for kind in kinds))
    ]
    for size in range(1, len(differ) + 1):
        for chosen in itertools.combinations(differ, size):
            values = [tuple(getattr(kind, name) for name, _ in chosen) for kind in kinds]
            if len(set(values)) == len(kinds):
                columns = [column for _, column in chosen]
                return [_condition(columns, value) for value in values]
    return [""] * len(kinds)


def _condition(columns: Sequence[str], values: Sequence[Any]) -> str:
    return " and ".join(map(_equal, columns, values))


def _equal(column: str, value: Any) -> str:
    if value is None:
        return f"{column} is null"
    if isinstance(value, str):
        if not value and column != "negative_prompt":  # an older version did not record it
            return f"{column} is null"
        text = value.replace("'", "''")
        return f"{column} = '{text}'"
    is_whole = isinstance(value, float) and value.is_integer()
    return f"{column} = {int(value) if is_whole else value!r}"
