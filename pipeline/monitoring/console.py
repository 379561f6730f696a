"""Prints texts that come from outside: as they are, without credentials or terminal codes.

Rich reads brackets as markup and `:name:` as emoji, so a path or an error must not be handed to it
as a plain string.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from pipeline.redaction import shown


def text_of(text: str, style: str = "") -> Text:
    """A text for the console that holds no markup, no credentials and no terminal codes."""
    return Text(shown(text), style)


def say(console: Console, *texts: str | Text, one_line: bool = False) -> None:
    """Print a line from several texts.

    Args:
        console: Prints it.
        texts: Pieces of the line; strings pass `text_of`.
        one_line: Do not wrap at the width of the console.
    """
    pieces = [text_of(text) if isinstance(text, str) else text for text in texts]
    console.print(Text.assemble(*pieces), highlight=False, soft_wrap=one_line)
