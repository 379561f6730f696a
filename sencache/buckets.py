"""Filling the batches of network calls up to few sizes."""

from __future__ import annotations

from collections.abc import Sequence


def fill_up(
    computed: Sequence[bool], score: Sequence[float], buckets: Sequence[int]
) -> list[bool] | None:
    """Verdicts with the rows of highest score added, up to the next size of batch.

    Args:
        computed: Verdict per row.
        score: S per row.
        buckets: Sizes, rising.

    Returns:
        The verdicts; None where nothing is added, as where no row computes.
    """
    wanted = sum(computed)
    size = next((bucket for bucket in buckets if bucket >= wanted), wanted)
    size = min(size, len(computed))
    if not wanted or size == wanted:
        return None
    idle = sorted((row for row, ran in enumerate(computed) if not ran), key=lambda r: -score[r])
    added = set(idle[: size - wanted])
    return [ran or row in added for row, ran in enumerate(computed)]
