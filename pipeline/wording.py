"""Words that messages share: numbers of things, money, and names of commands."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = "sencache-pipeline"
"""The console command of an installation."""

TO_DECODE = (
    "`datasets` decodes a clip when it is read, and needs `pip install torchcodec` for that; "
    'without it, `clips.cast_column("video", datasets.Video(decode=False))` gives the mp4.'
)
"""What a dataset card says of reading clips."""


def called_as(command: str) -> str:
    """How a user of this process calls a command: by the console command or from a checkout."""
    if Path(sys.argv[0]).name.startswith(PROGRAM):
        return f"{PROGRAM} {command}"
    return f"{_python()} jobs/{command}.py"


def _python() -> str:
    """How a shell calls this Python: by its path where `python` is another one or none.

    `make demo` uses the virtual environment of the checkout without activating it.
    """
    found = shutil.which("python")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return "python"
    here = Path.cwd()
    if sys.prefix == sys.base_prefix or not Path(sys.executable).is_relative_to(here):
        return "python"
    return shlex.quote(str(Path(sys.executable).relative_to(here)))


def first_line(text: str | None, command: str) -> str:
    """The first line of a command's module, for its help, with the command as it was called."""
    line = (text or "").split("\n")[0]
    return line.replace(f"python jobs/{command}.py", called_as(command))


def counted(number: int, noun: str, *, grouped: bool = False) -> str:
    """A number and its noun, e.g. `1 row` or `2 rows`.

    Args:
        number: How many.
        noun: In the singular; its plural must end in a plain s.
        grouped: Separate thousands by commas.
    """
    digits = f"{number:,}" if grouped else str(number)
    return f"{digits} {noun}{'s' * (number != 1)}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names in a sentence, e.g. `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def quoted(text: str) -> str:
    """A word of a shell command; in double quotes where these keep it as it is."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def place_of_row(key: str) -> str:
    """The place of a row in the input, e.g. `row 7 of my.csv` for the key `my.csv:7`.

    Files of lines count their lines, the other ones their rows: in a CSV file, row 7 is on another
    line, because a header is above it and a cell may have several lines.
    """
    file, _, number = key.rpartition(":")
    if not file or not number.isdigit():
        return key
    is_lines = any(f".{kind}" in Path(file).suffixes for kind in ("jsonl", "ndjson", "txt"))
    return f"{'line' if is_lines else 'row'} {number} of {file}"


def a_kind_of(value: object) -> str:
    """The type of a value with its article, e.g. `a list` or `an int`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def are(number: int) -> str:
    """The verb that follows a counted noun: `is` for one, else `are`."""
    return "is" if number == 1 else "are"


def rate(clips_per_s: float) -> str:
    """Clips per second, minute or hour, whichever is easiest to read."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if clips_per_s * seconds >= 1:
            return f"{clips_per_s * seconds:.1f} clips/{unit}"
    return f"{clips_per_s * 3600:.1f} clips/h"


def dollars(value: float) -> str:
    """Money with three digits that count or to the cent, in cents below a dollar.

    Such as `$1,230`, `$12.35`, `4.56¢`.

    Args:
        value: In dollars, not negative.
    """
    if value == 0:
        return "$0"
    rounded = float(f"{value:.3g}")
    if rounded >= 100:
        return f"${rounded:,.0f}"
    if rounded >= 1:
        return f"${value:.2f}"
    decimals = max(0, 2 - math.floor(math.log10(rounded * 100)))
    cents = f"{rounded * 100:.{decimals}f}"
    return f"{cents.rstrip('0').rstrip('.') if '.' in cents else cents}¢"


FAR = 1.5
"""A measured error so many times the promised one is pointed out."""


def is_too_much(promised: float, measured: float) -> bool:
    """Whether a measured error of caching is far larger than the promised one."""
    return measured > FAR * promised


def more_than_promised(promised: float, measured: float) -> str:
    """What a measured error of caching says of the promised one; "" where the promise holds.

    Args:
        promised: Relative error of the last latents, as plans promised it.
        measured: The same, as controls measured it.
    """
    if is_too_much(promised, measured):
        return TOO_MUCH
    if measured > promised:
        return f"{measured / promised:.1f} times as much, up to {FAR:g} times is usual"
    return ""


TOO_MUCH = "more than promised, choose a higher --cache.quality"


def size(value: float) -> str:
    """Bytes in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
