"""The seed of a clip: its row's, else the run's, else one derived from the rest of the request.

Clips of one row differ in their seeds. A given seed counts up from copy to copy; a derived seed
depends on the number of the copy, so equal requests have equal seeds in every run.
"""

from __future__ import annotations

from typing import Any

from pipeline.requests.row_values import integer

MAX_SEED = 2**63 - 1


def given_seed(row_seed: Any, run_seed: int | None, copy: int) -> int | None:
    """Return the seed that a row or the run gives to a clip.

    Args:
        row_seed: Value of the row, None if it gives none.
        run_seed: `sampling.seed`, None if it is unset.
        copy: Number of the clip among those of its row, from 0.

    Returns:
        The given seed plus `copy`, or None where the seed is derived.

    Raises:
        RowRejectedError: The row's value is not a seed.
    """
    first = run_seed if row_seed is None else row_seed
    return None if first is None else integer(first, "seed", 0, 0, MAX_SEED - copy) + copy


def derived_seed(digest: bytes) -> int:
    """Return the seed of a clip whose row and run give none.

    Args:
        digest: Of the canonical JSON of `[identity, copy]`, with seed 0 in the identity.

    Returns:
        48 bits: every reader of the output row can hold them exactly, also JavaScript.
    """
    return int.from_bytes(digest[:6], "big")
