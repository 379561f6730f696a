"""How many mutants of a module the tests notice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.mutants.equal import Listed
from tests.mutants.mutant import Mutant


@dataclass(frozen=True, slots=True)
class Score:
    """Of one module.

    Attributes:
        all: Its mutants.
        run: Those that were run.
        killed: Those that a test noticed, also by never coming to an end.
        equal: Those that were not noticed and are on the list of equal ones.
        survived: All others.
        stale: Lines of the list for this module that fit no mutant any more.
    """

    all: int
    run: int
    killed: int
    equal: int
    survived: list[Mutant]
    stale: list[Listed]

    @property
    def percent(self) -> float:
        """Killed mutants in percent of those that are not equal to the code."""
        judged = self.killed + len(self.survived)
        return 100.0 * self.killed / judged if judged else 100.0


def score_of(
    mutants: Sequence[Mutant],
    run: Sequence[Mutant],
    survivors: Collection[str],
    listed: Sequence[Listed],
) -> Score:
    """Compare what survived with the list.

    Args:
        mutants: All of the module.
        run: Those that were chosen; those of them that do not count were not run.
        survivors: Names of those that no test noticed.
        listed: Mutants of all modules that are equal to the code.
    """
    run = [mutant for mutant in run if mutant.counts]
    equal = {(each.function, each.old, each.new) for each in listed}
    left = [mutant for mutant in run if mutant.name in survivors]
    survived = [m for m in left if (m.function, m.old, m.new) not in equal]
    known = {(mutant.function, mutant.old, mutant.new) for mutant in mutants}
    module = mutants[0].module if mutants else ""
    stale = [
        each
        for each in listed
        if each.function.startswith(f"{module}.")
        and (each.function, each.old, each.new) not in known
    ]
    killed = len(run) - len(left)
    return Score(len(mutants), len(run), killed, len(left) - len(survived), survived, stale)
