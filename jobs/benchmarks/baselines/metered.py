"""What metered calls of a run add up to, for one decision for all samples."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.benchmarks.baselines.base import BaselineResult


@dataclass(frozen=True)
class Metered:
    """A call of a network.

    Attributes:
        network: Which network.
        context: Name of the cache context; "" outside of one.
        samples: Samples in it.
        work: What ran of its blocks, as a share of a full call.
        ran: Whether its last block ran.
    """

    network: int
    context: str
    samples: int
    work: float
    ran: bool


@dataclass
class Log:
    """The calls of the latest run, of all networks of a pipeline.

    Attributes:
        calls: In order.
        ended: Whether the pipeline's call is over, so that the next begins another run.
    """

    calls: list[Metered] = field(default_factory=list)
    ended: bool = False

    def decisions(self) -> list[str]:
        """Per sample, of the calls that hold the conditional branch; networks in turn."""
        mine = [call for call in self.calls if call.context != "uncond"]
        letters = "".join("C" if call.ran else "R" for call in mine)
        return [letters] * (mine[0].samples if mine else 0)

    def nfe(self) -> list[float]:
        """Per sample, in steps; calls that together make a step count as one."""
        if not self.calls:
            return []
        contexts = {call.context for call in self.calls}
        total = sum(call.work for call in self.calls) / len(contexts)
        return [total] * self.calls[0].samples

    def outcome(self) -> BaselineResult:
        """The same for a harness."""
        return BaselineResult(self.decisions, self.nfe)
