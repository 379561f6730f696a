"""The errors a person can act on. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

from pipeline.storage.faults import redact

MAX_MESSAGE_CHARS = 2000
"""Error text kept in a row; a CUDA traceback can be far longer than the row is worth."""


class UserError(Exception):
    """Bad configuration or input: what is wrong, where, and what would be right, in one line.

    Jobs print it as one line on stderr and exit with code 2. Credentials inside URLs are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class StorageError(UserError):
    """A prefix or file cannot be used: missing, denied, wrong credentials, full."""


class RowRejectedError(ValueError):
    """One input row cannot become a sample; it ends as an output row with status `rejected`."""


def message_of(error: BaseException) -> str:
    """The text of an error as a row keeps it: one line, not too long, never empty."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
