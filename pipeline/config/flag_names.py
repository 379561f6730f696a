"""Names of flags that a user wrote, against those that there are: slips of the pen.

Imports the standard library alone, so that a command says a mistake before it loads anything.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence


def no_flag(name: str, known: Collection[str], lists: str = "--help") -> str:
    """What to say of a flag that does not exist, with the one that it may be a slip of.

    Args:
        name: The flag, with its dashes.
        known: The flags that there are.
        lists: The flag that lists all of them.
    """
    near = closest_flag(name, known)
    meant = f"; did you mean {near}?" if near else ""
    return f"there is no flag {name}{meant}; {lists} lists all"


def closest_flag(name: str, known: Collection[str]) -> str:
    """The flag that a word may stand for, "" without one."""
    ours = list(known)
    section, dot, last = name.rpartition(".")
    likely = [each for each in ours if each.startswith(f"{name}.")]
    if not likely and dot:
        # `steps` is a word of num-inference-steps, although more of their letters differ than of
        # `fps`.
        section += dot
        rest = [each for each in ours if each.startswith(section)]
        likely = [each for each in rest if last in each.removeprefix(section).split("-")]
    near = likely[:1] or difflib.get_close_matches(name, ours, 1, 0.75)
    near = near or _of_the_same_words(name, ours) or difflib.get_close_matches(name, ours, 1, 0.5)
    return near[0] if near else ""


def _of_the_same_words(name: str, known: Sequence[str]) -> list[str]:
    """Flags that have all words of a name, or whose words it has all; the nearest in length.

    The price of a GPU is `--price` of one command and `--gpu-price-per-hour` of another.
    """
    wanted = _words(name)
    found = [each for each in known if _words(each) <= wanted or _words(each) >= wanted]
    return sorted(found, key=lambda each: len(_words(each) ^ wanted))[:1]


def _words(name: str) -> set[str]:
    return set(name.strip("-").replace(".", "-").split("-"))
