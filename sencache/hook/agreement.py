"""One decision for all ranks that run a network together.

A rank that reuses while its peers compute leaves them waiting in a collective for ever. Ranks see
the same latents, but their kernels may differ in the last bits, and a score next to the threshold
then falls on either side. So the ranks exchange what they have seen, once per decision and on the
host. Rank 0's facts apply to all; decisions in which another rank differed are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Agreement(Protocol):
    """Makes ranks decide alike.

    Attributes:
        disagreements: Decisions so far in which the verdict of some rank differed.
        decisions: Decisions so far.
    """

    disagreements: int
    decisions: int

    def settle(self, facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        """Exchange facts and return those that apply to all ranks.

        Args:
            facts: Of this rank, on the CPU, float32; of the same shape in all ranks.
            verdicts: Index of the verdicts (1 or 0) along the second dimension.

        Returns:
            Rank 0's facts, on the CPU.
        """
        ...


@dataclass
class RankAgreement:
    """Agreement over a process group of torch.distributed that works on CPU tensors (gloo).

    Attributes:
        group: The ranks; None for all.
        disagreements: Decisions so far in which the verdict of some rank differed.
        decisions: Decisions so far.
    """

    group: Any = None
    disagreements: int = 0
    decisions: int = 0

    def settle(self, facts: torch.Tensor, verdicts: int) -> torch.Tensor:
        """Return rank 0's facts, by one all-gather."""
        import torch.distributed as dist

        seen = [torch.empty_like(facts) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(seen, facts.contiguous(), group=self.group)
        first = seen[0]
        self.decisions += 1
        self.disagreements += any(
            not torch.equal(other[:, verdicts], first[:, verdicts]) for other in seen[1:]
        )
        return first
