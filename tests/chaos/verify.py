"""What must hold after a trial, whatever was killed in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """One engine call of the log.

    Attributes:
        event: `begin`, then `end`, or `killed` where the node killed its process.
        ids: Its samples.
        at: Unix seconds.
        pid: Process of the actor.
    """

    event: str
    ids: tuple[str, ...]
    at: float
    pid: int


def read_log(path: Path) -> list[Attempt]:
    """Attempts of a trial so far, in order; a line that is being written is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            fields = json.loads(line)
            found.append(
                Attempt(fields["event"], tuple(fields["ids"]), fields["at"], fields["pid"])
            )
    return found


@dataclass(frozen=True)
class Kill:
    """One kill, and what was safe before it.

    Attributes:
        at: Unix seconds.
        stored: Ids whose media was in the store just before.
    """

    at: float
    stored: frozenset[str]


@dataclass(frozen=True)
class Verdict:
    """What became of the samples.

    Attributes:
        lost: Samples without an ok row.
        duplicated: Ok rows beyond the first of their id.
        torn: Ok rows whose media is missing or has another hash.
        wasted: Clips that were drawn again because a kill hit the attempt.
        needless: Clips that were drawn again although they were safe, or more often than kills.
    """

    lost: int
    duplicated: int
    torn: int
    wasted: int
    needless: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.duplicated or self.torn or self.needless)


def judge(
    expected: int,
    rows: Sequence[Mapping[str, Any]],
    hashes: Mapping[str, str],
    attempts: Sequence[Attempt],
    kills: Sequence[Kill],
) -> Verdict:
    """Check the output of a trial against the log of its engine.

    A sample may be drawn once more for each kill, and only if its media was not stored before it;
    and again wherever a broken node killed the process that drew it.
    """
    ok = [row for row in rows if row["status"] == "ok"]
    ids = Counter(row["sample_id"] for row in ok)
    begun = [attempt for attempt in attempts if attempt.event == "begin"]
    drawn = Counter(sample for attempt in begun for sample in attempt.ids)
    killed = Counter(
        sample for attempt in attempts if attempt.event == "killed" for sample in attempt.ids
    )
    needless = {
        sample for sample, count in drawn.items() if count - killed[sample] > 1 + len(kills)
    }
    for kill in kills:
        after = {sample for each in begun if each.at > kill.at for sample in each.ids}
        needless |= after & kill.stored
    return Verdict(
        lost=expected - len(ids),
        duplicated=sum(ids.values()) - len(ids),
        torn=sum(hashes.get(row["video"]["path"]) != row["media_sha256"] for row in ok),
        wasted=sum(drawn.values()) - len(drawn),
        needless=tuple(sorted(needless)),
    )


def recovery_s(attempts: Sequence[Attempt], kill: Kill, ended: float) -> float:
    """Seconds from a kill to the next finished engine call, or to the end where none was left."""
    later = [each.at for each in attempts if each.event == "end" and each.at > kill.at]
    return (min(later) if later else ended) - kill.at
