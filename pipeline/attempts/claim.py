"""The ledger's answer to a worker that asks for attempts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a worker that wants to run a batch.

    Attributes:
        granted: The attempt is recorded and may begin. Otherwise the samples of a batch must be
            claimed one by one, and a single sample has used up its attempts.
        attempts: Attempts begun so far per sample, this one included where granted.
        kind: Type of the error that ended the previous attempt of the first sample.
        reason: What is known of that attempt, "" if there was none.
        lost_s: Engine seconds per sample of attempts that ended their process.
        bad_node: Not granted because this node is bad.
        hopeless: Why the run should stop, "" if it should not; nothing is granted then.
    """

    granted: bool
    attempts: list[int]
    kind: str
    reason: str
    lost_s: list[float] = field(default_factory=list)
    bad_node: bool = False
    hopeless: str = ""
