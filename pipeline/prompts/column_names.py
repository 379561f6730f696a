"""Names of columns that a user wrote, against those that an input has: slips of the pen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

from pipeline.errors import UserError


def check_named(missing: Collection[str], names: Collection[str]) -> None:
    """Refuse columns that the user named and that the input does not have.

    Args:
        missing: These columns.
        names: Columns that it has.

    Raises:
        UserError: There are some; it says which the user may have meant.
    """
    if not missing:
        return
    slips = [(name, close_name(name, names)) for name in missing]
    said = ", ".join(f"{name} (did you mean {near}?)" if near else name for name, near in slips)
    shown = ", ".join(list(names)[:20]) or "none"
    raise UserError(f"--columns: no row of the input has a column {said}; its columns are {shown}")


def close_name(name: str, choices: Iterable[str]) -> str:
    """The choice that a name may be a slip of, "" without one; signs and case are no difference."""
    plain = {re.sub(r"[\W_]+", "_", choice.strip().lower()): choice for choice in choices}
    wanted = re.sub(r"[\W_]+", "_", name.strip().lower())
    found = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.75)
    return plain[found[0]] if found else ""


def other_separator(names: Iterable[str]) -> str:
    """What to say of columns that are one, because their cells are not separated by commas.

    Args:
        names: Columns as they were read.

    Returns:
        Words behind `no column 'prompt'`; "" where this is not the reason.
    """
    (first, *others) = [*names, ""]
    if others != [""]:
        return ""
    found = next((each for each in ";|\t" if each in first), "")
    return f" (its cells are separated by {found!r}: separate them by commas)" if found else ""
