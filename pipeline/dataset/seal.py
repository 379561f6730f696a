"""A seal is a hash of a file inside that file, which shows whether the file is undamaged.

The file is made with 64 zeros as its seal. `close` hashes the file as it is then and puts the hash
in the place of the zeros; `is_whole` puts the zeros back, hashes again and compares. Works on
any file that contains the marker.
"""

from __future__ import annotations

import hashlib
import re

KEY = "seal_sha256"
BLANK = "0" * 64
"""The value that the writer of a file stores under `KEY` of its JSON."""

_MARK = re.compile(rb'"seal_sha256": "([0-9a-f]{64})"')


def close(data: bytes) -> bytes:
    """Return a file with its hash in the place of its blank seal.

    Raises:
        ValueError: The file holds no blank seal.
    """
    found = _MARK.search(data)
    if found is None or found[1] != BLANK.encode():
        raise ValueError("the file holds no blank seal")
    own = hashlib.sha256(data).hexdigest().encode()
    return b"".join([data[: found.start(1)], own, memoryview(data)[found.end(1) :]])


def is_whole(data: bytes) -> bool:
    """Whether every byte of a file is as it was sealed; False if there is no seal."""
    found = _MARK.search(data)
    if found is None:
        return False
    digest = hashlib.sha256(data[: found.start(1)])
    digest.update(BLANK.encode())
    digest.update(memoryview(data)[found.end(1) :])
    return digest.hexdigest().encode() == found[1]
