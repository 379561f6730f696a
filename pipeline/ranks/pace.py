"""How long a rank may be silent, learnt from how long it was silent before.

A constant would be too short for the first clip of a large model and far too long for the hundredth
of a small one. Silences are told apart by the mark that they follow, and grow with the work of a
request: a step of twice the pixels may take twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Pace:
    """Longest silences so far.

    Attributes:
        first_s: Allowed after a mark that nothing is known of yet: loading, compiling.
        factor: Times the longest silence so far that are allowed.
        floor_s: Always allowed: other work on the machine, a collection of garbage.
    """

    first_s: float = 3600.0
    factor: float = 5.0
    floor_s: float = 30.0
    _longest: dict[str, float] = field(default_factory=dict)

    def saw(self, after: str, seconds: float, work: float) -> None:
        """Learn from a silence that ended.

        Args:
            after: The mark before it.
            seconds: Its length.
            work: Of the request, in whatever unit; 1 if all requests are alike.
        """
        self._longest[after] = max(self._longest.get(after, 0.0), seconds / work)

    def allowed_s(self, after: str, work: float) -> float:
        """How long the silence after a mark may last, seconds."""
        if after not in self._longest:
            return max(self.first_s, self.floor_s)
        return max(self.floor_s, self.factor * self._longest[after] * work)
