"""What one engine does among the ranks of its group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.parallel.layout import ALONE as ONE_RANK
from pipeline.parallel.layout import ParallelLayout

if TYPE_CHECKING:
    from sencache.extension import Agreement


@dataclass(frozen=True)
class RankRole:
    """What one engine does among the ranks of its group.

    Attributes:
        layout: How the ranks share the model.
        decodes: Whether this rank takes part in turning latents into frames.
        answers: Whether it returns the clips; one rank does.
        agreement: Makes all ranks follow one decision where theirs could differ.
        mark: Called with the name of a place when the call comes to it, to report progress:
            "encoding", "encoded", "step", "decoding", "decoded".
    """

    layout: ParallelLayout = ONE_RANK
    decodes: bool = True
    answers: bool = True
    agreement: Agreement | None = None
    mark: Callable[[str], None] | None = None

    def guided(self, pipe: Any) -> contextlib.AbstractContextManager[None]:
        """The context of a call whose branches of guidance go to two halves of the ranks.

        Enter it after the cache is applied.
        """
        if self.layout.cfg == 1:
            return contextlib.nullcontext()
        from pipeline.parallel.guidance import joined_branches

        return joined_branches(pipe)


ALONE = RankRole()
