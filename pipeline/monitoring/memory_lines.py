"""What a run says of device memory before it loads anything."""

from __future__ import annotations

from pipeline.models.memory.cards import CARDS, TIGHT, TIGHT_NOTE, cards_that_hold
from pipeline.models.memory.preflight import LargestCall


def memory_lines(call: LargestCall | None) -> list[str]:
    """One line on what a GPU must hold; none for a model whose memory was not measured."""
    if call is None or call.need is None:
        return []
    fits, others = cards_that_hold(call.need.total)
    cards = ", ".join(f"{name} ({CARDS[name]:.0f})" for name in fits) or "none of the known cards"
    too_small = f"; not on {', '.join(others)}" if others else ""
    tight = [name for name in fits if call.need.total > TIGHT * CARDS[name]]
    little = f". Tight on {', '.join(tight)}: {TIGHT_NOTE}" if tight else ""
    return [
        f"Memory of each GPU: {call.work} needs {call.need}; runs on {cards}{too_small}{little}"
    ]
