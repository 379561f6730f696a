"""The door for every text that a person or a file will read: no credentials, no terminal codes.

Texts of errors, places and settings pass `shown` where they enter a row, a message, a report or a
log. Captions do not: they are the data. Hidden are user information and signatures inside URLs,
tokens of known shapes, assignments such as `password=...`, and the values of the environment's own
secrets, wherever they occur.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Shorter values of the environment are no secrets, and would hide parts of common words."""

_USER = re.compile(
    r"://(?:[^\s/?#@'\"<>]*@"  # user:password@, each of which may be missing
    r"|[^\s/?#@:]*:(?!\d{1,5}(?:[/?#\s]|$))[^\s@'\"<>]+@)+"  # a password with slashes; no port
)
_PARAMETER = re.compile(
    r"((?:[?&#;]|%3F|%26)"
    r"(?:[^=&\s%]*(?:signature|token|key|credential|secret|passw|pwd|auth)[^=&\s%]*|(?:amp;)?sig))"
    r"(=|%3D)[^&\s\"'<>%]*(?:%(?!26)[^&\s\"'<>%]*)*",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"((?:secret|passw(?:or)?d|passphrase|access[_-]?key|api[_-]?key|x-(?:amz|goog)-[\w-]+|"
    r"(?:session|auth|access|security|refresh|hf)[_-]token|authorization)[\w-]*[\"']?(?:\s*:\s*|\s+=\s+|=)"
    r"[\"']?(?:(?:bearer|basic)\s+)?)[^\s\"',;&{}<>]+",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(?:A(?:KI|SI)A[0-9A-Z]{16}|hf_\w{20,}|gh[opusr]_\w{20,}|github_pat_\w{20,}|sk-[\w-]{20,}|"
    r"xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
    r"|\b[Bb]earer [\w.~+/=-]{16,}"
)
_SECRET_NAME = re.compile(
    r"(?:secret|token|passw|api_?key|access_key)(?!.*(?:_file|_path|_dir|_uri|_url|_mode)$)",
    re.IGNORECASE,
)
_CODES = {
    *range(32),
    *range(127, 160),
    *(0x200E, 0x200F, 0x2028, 0x2029),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
} - {ord("\t"), ord("\n")}
_VISIBLE = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CODES}


def redact(text: str) -> str:
    """Hide credentials; everything else stays as it is."""
    if not text:  # the errors of all good rows
        return text
    for secret in _secrets():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    text = _ASSIGNED.sub(rf"\g<1>{HIDDEN}", _USER.sub("://", text))
    return _TOKEN.sub(HIDDEN, _PARAMETER.sub(r"\1\2", text))


def printable(text: str) -> str:
    r"""Write control, direction and broken characters as `\x1b`: no terminal obeys them."""
    return text.translate(_VISIBLE)


def shown(text: str) -> str:
    """The text as people and files get it: without credentials, and printable."""
    return printable(redact(text))


def redacted(value: Any) -> Any:
    """Copy JSON values and redact every text in them."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else value


def guard_output() -> None:
    """Have logs and tracebacks of this process pass the door; for entry points of processes."""
    make = logging.getLogRecordFactory()
    if getattr(make, "guards", False):
        return

    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            record.msg, record.args = shown(record.getMessage()), ()
            if record.exc_info and record.exc_info[0]:
                text = "".join(traceback.format_exception(*record.exc_info))
                record.exc_text = shown(text).rstrip("\n")
        except Exception:  # noqa: BLE001 - a log call of someone else that does not fit its format
            record.msg, record.args = shown(str(record.msg)), ()
        return record

    def hook(kind: Any, error: Any, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        sys.stderr.write(shown("".join(traceback.format_exception(kind, error, trace))))

    guarded.guards = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)
    sys.excepthook = hook
    threading.excepthook = lambda args: hook(args.exc_type, args.exc_value, args.exc_traceback)


@functools.lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _secrets() -> Iterator[str]:
    # Asked each time, because a program may set one at any time. Every row has texts that pass
    # here, so values of other variables are not looked at.
    for name in os.environ:
        if _is_secret(name) and len(value := os.environ.get(name, "")) >= SHORTEST_SECRET:
            yield value
            if (quoted := quote(value, safe="")) != value:
                yield quoted
