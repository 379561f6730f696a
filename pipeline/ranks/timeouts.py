"""How long a rank may be silent before it counts as hung, learnt from its earlier silences.

A constant would be too short for the first clip of a large model and far too long for the hundredth
clip of a small one. Silences are kept apart by the progress mark that they follow, and scale with
the work of a request: a step of twice the pixels may take twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AdaptiveTimeout:
    """Timeouts by progress mark.

    Attributes:
        first_s: Allowed after a mark for the first time: loading and compiling take long.
        factor: A silence may last this many times the longest one so far.
        floor_s: Always allowed, whatever was learnt: a rank compiles anew where the number of rows
            changes within a run, and other work on the machine can hold it up.
    """

    first_s: float = 3600.0
    factor: float = 5.0
    floor_s: float = 300.0
    _longest: dict[str, float] = field(default_factory=dict)

    def observe(self, mark: str, seconds: float, work: float) -> None:
        """Learn from a silence that has ended.

        Args:
            mark: The mark that it followed.
            seconds: Its length.
            work: Work of the request, in any unit; 1 if all requests are alike.
        """
        self._longest[mark] = max(self._longest.get(mark, 0.0), seconds / work)

    def allowed_s(self, mark: str, work: float) -> float:
        """How long the silence after a mark may last, seconds."""
        if mark not in self._longest:
            return max(self.first_s, self.floor_s)
        return max(self.floor_s, self.factor * self._longest[mark] * work)
