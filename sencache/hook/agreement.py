"""One verdict for ranks that run a network together.

A rank that reuses while its peers compute leaves them in a collective for ever. Ranks see the same
latents, but their kernels may differ in the last bits, and a score next to the threshold then falls
on either side. So what a rank has seen is exchanged, once per decision and on the host, and rank
0's counts; whoever thought otherwise is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Agreement(Protocol):
    """Brings ranks to one opinion.

    Attributes:
        disagreements: Decisions so far in which some rank's own verdict was another.
        decisions: Decisions so far.
    """

    disagreements: int
    decisions: int

    def settle(self, facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        """What counts, of what every rank has seen.

        Args:
            facts: Of this rank, on the CPU, float32; of the same shape in all ranks.
            verdicts: Index along the second dimension of what must not differ, 1 or 0.

        Returns:
            Rank 0's facts, on the CPU.
        """
        ...


@dataclass
class RankAgreement:
    """Agreement over a process group of torch.distributed that works on CPU tensors (gloo).

    Attributes:
        group: The ranks; None for all.
        disagreements: See :class:`Agreement`.
        decisions: Likewise.
    """

    group: Any = None
    disagreements: int = 0
    decisions: int = 0

    def settle(self, facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        """See :class:`Agreement`; one all-gather."""
        import torch.distributed as dist

        seen = [torch.empty_like(facts) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(seen, facts.contiguous(), group=self.group)
        first = seen[0]
        self.decisions += 1
        self.disagreements += any(
            not torch.equal(other[:, verdicts], first[:, verdicts]) for other in seen[1:]
        )
        return first
