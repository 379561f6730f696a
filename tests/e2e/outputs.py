"""What end-to-end tests put into runs, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds


def rows_of(output: Path) -> list[dict[str, Any]]:
    return ds.dataset(output / "data", format="parquet").to_table().to_pylist()


def write_prompts(path: Path, prompts: Sequence[str]) -> str:
    path.write_text("\n".join(prompts) + "\n")
    return str(path)
