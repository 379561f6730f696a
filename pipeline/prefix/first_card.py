"""The card that a prefix has from the start of its first run until its first report.

`datasets` takes a folder without a card for a folder of videos: it gives clips without captions,
with controls among them. The first card names the index, so until that is written, `datasets`
says that it is missing.
"""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.export.index import INDEX_KEY, content_name
from pipeline.storage.storage import Storage

CARD_KEY = "README.md"
MARK = "<!-- made by jobs/report.py: edits are lost; remove this line to keep the file -->"

_NO_INDEX = "This dataset has no index yet"


def index_config(content: str) -> dict[str, Any]:
    """The configuration of a card by which `datasets` and the Hub read the clips of the index.

    Args:
        content: Stands for what the dataset holds (`content_name`).
    """
    return {
        "config_name": "default",
        "description": content,
        "data_files": [{"split": "train", "path": [INDEX_KEY, "media/*/*.mp4"]}],
    }


def is_marked(storage: Storage) -> bool:
    """Whether the card of a prefix, which must exist, is ours to replace.

    Raises:
        StorageError: It cannot be read.
    """
    return MARK.encode() in storage.read_bytes(CARD_KEY)


def is_first(storage: Storage) -> bool:
    """Whether the card of a prefix, which must exist, waits for the report.

    Raises:
        StorageError: It cannot be read.
    """
    return is_marked(storage) and _NO_INDEX.encode() in storage.read_bytes(CARD_KEY)


def write_first_card(storage: Storage) -> None:
    """Write the first card of a prefix that has none.

    Raises:
        StorageError: It cannot be written.
    """
    if not storage.exists(CARD_KEY):
        storage.put_bytes(CARD_KEY, _text(storage).encode())


def _text(storage: Storage) -> str:
    front = {
        "pretty_name": "Synthetic clips",
        "task_categories": ["text-to-video"],
        "tags": ["synthetic", "video"],
        "configs": [index_config(content_name([storage.uri]))],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        MARK,
        "# Synthetic clips",
        "",
        f"{_NO_INDEX}: a run is making it, was stopped, or wrote no report. "
        f"`load_dataset` needs the index, `{INDEX_KEY}`. This command writes it, with the report "
        "and the full card:",
        "",
        "```",
        "python jobs/report.py --output PATH",
        "```",
        "",
    ]
    return "\n".join(lines)
