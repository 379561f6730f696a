"""Budgets of planned runs: how many steps a budget computes, and which budgets are possible.

Whole numbers only, known before a run. Needs neither a profile nor torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

PLANNER_VERSION = 2
"""Part of the sample id of planned clips. Raise it with every change of the planner, the forecasts
or their constants that changes a plan; a test holds plans against it."""
LOW_BUDGET = 0.17
"""Budgets below this share of the steps are planned with fewer bounds: up to :data:`LOW_MAX_GAP`
steps are forecast in a row, and the last step may be one of them. See BENCHMARKS.md."""
UNREPAIRED_BUDGET = 0.13
"""Plans of budgets below this share repair nothing: over gaps so long, what is known at both ends
says too little of what lies between."""
LOW_PLANNER_VERSION = 3
"""The version of these plans; all others have :data:`PLANNER_VERSION`."""
MAX_GAP = 12
"""Most steps that are forecast in a row."""
LOW_MAX_GAP = 24
"""The same at low budgets: 12 would leave them little choice, at 5 of 50 none."""
FEW_STEPS = 8
"""A run of so many steps or fewer is computed as a whole unless a budget is set: each of its steps
moves the latents so far that no forecast is safe."""
SHARED = 5
"""Computed steps that all rows of a run with a gate share; the gate is at the last of them.

Later gates know better which rows are hard but leave less to be gained; see BENCHMARKS.md.
"""


def is_low(budget: float | None) -> bool:
    """Whether a budget is below :data:`LOW_BUDGET`."""
    return budget is not None and budget < LOW_BUDGET


def planner_version(budget: float | None) -> int:
    """The version of the planner that plans a budget; None: planned by an error."""
    return LOW_PLANNER_VERSION if is_low(budget) else PLANNER_VERSION


def computed_steps(budget: float, steps: int) -> int:
    """Whole number of computed steps that a budget, a share of the steps, allows; at least 2."""
    return max(min(2, steps), min(steps, round(budget * steps)))


def least_computed(steps: int, cuts: Sequence[int] = ()) -> int:
    """Fewest computed steps of a schedule: no gap may be longer than :data:`MAX_GAP`."""
    ends = [0, *cuts, steps - 1]
    gaps = [after - before - 1 for before, after in itertools.pairwise(ends)]
    return len(ends) + sum(gap // (MAX_GAP + 1) for gap in gaps)


def check_room(gate: int, computed: int, steps: int) -> None:
    """Check that a budget leaves room for a gate.

    Args:
        gate: Steps that hard rows compute more.
        computed: Steps that the budget computes.
        steps: Of the run.

    Raises:
        ValueError: Too few computed steps to tell rows apart, or too many to add to.
    """
    least, most = SHARED + 2, steps - gate
    if not least <= computed <= most:
        room = f"with this gate it can be {least} to {most}"
        if most < least:
            room = f"a gate of {gate} needs a run of at least {least + gate} steps"
        raise ValueError(
            f"SenCacheConfig.gate is {gate} but the budget computes {computed} of "
            f"{steps} steps; {room}"
        )
