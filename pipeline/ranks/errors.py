"""What can go wrong with a group; each error names the rank and says what it knows of it."""

from __future__ import annotations


class GroupError(Exception):
    """A request was not answered.

    Attributes:
        alive: Whether the group can take further requests: only where all ranks refused alike.
    """

    alive = False


class RankRaisedError(GroupError):
    """A rank raised; the message is its traceback.

    Attributes:
        rank: The first rank that raised.
        kind: Class name of what it raised.
        message: Its text.
        alive: All ranks raised the same, so they are still in step.
    """

    def __init__(self, rank: int, kind: str, message: str, text: str, *, alive: bool) -> None:
        super().__init__(f"rank {rank} raised {kind}\n{text}")
        self.rank, self.kind, self.message, self.alive = rank, kind, message, alive


class RankDiedError(GroupError):
    """A rank's process ended by itself or was killed.

    Attributes:
        rank: Which.
    """

    def __init__(self, rank: int, how: str, output: str) -> None:
        said = f"; its last output:\n{output}" if output else ", without a word"
        super().__init__(f"rank {rank} {how}{said}")
        self.rank = rank


class RankSilentError(GroupError):
    """Ranks gave no sign of progress for longer than they should need.

    Attributes:
        ranks: Those that are furthest behind.
    """

    def __init__(self, ranks: tuple[int, ...], waited_s: float, where: str) -> None:
        names = ", ".join(str(rank) for rank in ranks)
        super().__init__(f"rank {names} silent for {waited_s:.1f} s after {where}: ended the group")
        self.ranks = ranks
