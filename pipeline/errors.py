"""The errors that a user can act on, and the text of errors in rows.

Every other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from pipeline.redaction import shown

MAX_MESSAGE_CHARS = 2000
"""Longest error text in a row; a CUDA traceback can be far longer."""


class UserError(Exception):
    """Bad configuration or input: what is wrong, where, and what would be right, in one line.

    Jobs print it as one line on stderr and exit with code 2. It hides credentials and terminal
    codes (`pipeline.redaction`).
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


class StorageError(UserError):
    """A prefix or file cannot be used: missing, denied, wrong credentials, full."""


class RowRejectedError(ValueError):
    """One input row cannot become a sample; it ends as an output row with status `rejected`."""


def message_of(error: BaseException) -> str:
    """The text of an error as a row keeps it: one printable line, limited, never empty.

    It holds no credentials; they are hidden before the text is cut.
    """
    text = shown(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
