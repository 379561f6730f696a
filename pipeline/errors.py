"""The errors that a user can act on, and the text of errors without credentials.

Every other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_MESSAGE_CHARS = 2000
"""Longest error text in a row; a CUDA traceback can be far longer."""

_SECRET_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:signature|token|key|credential|secret|password)[^=&\s]*)=[^&\s]+",
    re.IGNORECASE,
)


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
    """The text of an error as a row keeps it: one line, limited in length, never empty."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def redact(text: str) -> str:
    """Hide user information and signatures inside URLs."""
    return _SECRET_PARAMETER.sub(r"\1=", re.sub(r"://[^/\s@]+@", "://", text))


def redacted(value: Any) -> Any:
    """Copy JSON values and redact every text in them."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else value
