"""Refuses a place in which somebody else keeps files that a run or its report would replace.

A prefix is ours if it holds the record of a run or parts of rows, whichever version wrote them: a
run writes its record before any of these files.
"""

from __future__ import annotations

import re

from pipeline.dataset.parts import part_files
from pipeline.errors import UserError
from pipeline.prefix.first_card import CARD_KEY, is_marked
from pipeline.report.write import CONTACT_SHEET_KEY, WRITTEN
from pipeline.storage.storage import Storage
from pipeline.wording import listed

NAMES = (CARD_KEY, *(key for key in WRITTEN if key != CARD_KEY), CONTACT_SHEET_KEY)
"""Files that runs and reports replace."""

_RECORD = re.compile(r"runs/\d{8}T\d{6}Z[^/]*\.json")


def refuse_foreign(storage: Storage) -> None:
    """Refuse a place in which files of our names are not ours.

    Called after `Storage.check_writable`, which says sooner and better what is wrong with a store.

    Args:
        storage: The output prefix, into which nothing has been written yet.

    Raises:
        UserError: It holds such files.
        StorageError: It cannot be read.
    """
    there = [name for name in NAMES if storage.exists(name)]
    if not there or _is_ours(storage):
        return
    if there == [CARD_KEY] and is_marked(storage):
        return
    it = "it" if len(there) == 1 else "them"
    raise UserError(
        f"{storage.uri} holds {listed(there)}, which no run into it has written and a run would "
        f"replace: choose an empty folder or prefix as --output, or move {it} away"
    )


def _is_ours(storage: Storage) -> bool:
    runs = storage.list("runs/")
    return any(_RECORD.fullmatch(entry.key) for entry in runs) or bool(part_files(storage))
