"""A file that carries the hash of its own bytes, so that it can be trusted without its row.

The file holds a marker with 64 zeros; the hash is taken over the file as it is then, and replaces
them. To check, the zeros are put back. Knows nothing of what else is in the file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

KEY = "seal_sha256"
BLANK = "0" * 64
"""What the writer of a file puts under `KEY` of its JSON."""

_MARK = re.compile(rb'"seal_sha256": "([0-9a-f]{64})"')


def close(path: Path) -> None:
    """Put the hash into a file that was written with a blank seal.

    Raises:
        ValueError: It holds no blank seal.
    """
    data = path.read_bytes()
    found = _MARK.search(data)
    if found is None or found[1] != BLANK.encode():
        raise ValueError(f"{path} holds no blank seal")
    with path.open("r+b") as file:
        file.seek(found.start(1))
        file.write(hashlib.sha256(data).hexdigest().encode())


def is_whole(data: bytes) -> bool:
    """Say whether every byte of a sealed file is as it was written; False without a seal."""
    found = _MARK.search(data)
    if found is None:
        return False
    digest = hashlib.sha256(data[: found.start(1)])
    digest.update(BLANK.encode())
    digest.update(memoryview(data)[found.end(1) :])
    return digest.hexdigest().encode() == found[1]
