"""GPUs by the memory that a process finds on them."""

from __future__ import annotations

CARDS = {
    "RTX 4090": 25.4,
    "RTX 3090": 25.4,
    "RTX 5090": 33.6,
    "A100 40GB": 42.3,
    "RTX A6000": 47.7,
    "RTX 6000 Ada": 47.7,
    "L40S": 47.7,
    "A100 80GB": 84.9,
    "H100 80GB": 85.0,
    "H100 NVL": 99.9,
    "RTX PRO 6000": 101.9,
    "H200": 150.1,
    "B200": 191.5,
}
"""Memory in GB (10^9 bytes), as drivers report it in MiB, without what the driver keeps; by size.
Vendors count a GB as 2^30 bytes here: 80 GB are 85 of these. Those of the RTX cards are totals in
errors of PyTorch that users posted: 23.6 GiB (3090, 4090; zai-org/CogVideo issue 36), 31.36 GiB
(5090; TrajectoryCrafter issue 20), 44.4 GiB (6000 Ada, with ECC; MTVCrafter issue 21), 94.97 GiB
(PRO 6000; antirez/ds4 issue 431). An A6000 has more than this where its ECC is off, as delivered.
"""

TIGHT = 0.97
"""Share of a card's memory above which fragments may not find room."""

TIGHT_NOTE = (
    "less than 3 % of the memory is to spare, and a desktop on the same card takes memory too: "
    "--engine.vae-tiling or --engine.offload model gives room"
)
"""What `tight` means, and what to do about it."""

SMALLEST_SERVED = "H100 80GB"
"""The card on which every model of the registry runs at its default size without a flag."""


def cards_that_hold(need_gb: float) -> tuple[list[str], list[str]]:
    """The cards that hold so much, and those that do not, both by size."""
    fits = [name for name, memory in CARDS.items() if memory >= need_gb]
    return fits, [name for name in CARDS if name not in fits]
