"""What each try at clips that were not good has won, and whether one more pays."""

from __future__ import annotations

import numpy as np

from pipeline.report.accounts import Accounts
from pipeline.report.base import Estimate
from pipeline.report.bootstrap import FEW, ratio_of_sums
from pipeline.report.candidates.candidate_rows import CandidateRows, Places, find, keys
from pipeline.report.candidates.document import Redraws, RedrawTry
from pipeline.report.good_clips.clips import ScoredClips
from pipeline.report.rows import Floats, Mask, RowRoles, Rows
from pipeline.requests.seeds import redraw_seed
from pipeline.wording import are, counted


def measure_redraws(
    rows: Rows,
    roles: RowRoles,
    accounts: Accounts,
    scored: ScoredClips | None,
    candidates: CandidateRows,
) -> Redraws | None:
    """Count what each try won; None where no run of the prefix allowed a second try.

    Args:
        rows: Of the prefix.
        roles: Of the rows.
        accounts: What the prefix has cost.
        scored: Which clips are good.
        candidates: Which rows are tries at one sample.
    """
    tries = roles.clips | (roles.failed & ~roles.control)
    tries[candidates.drafts.places] = False
    if scored is None or not (tries & (rows.known("candidates") > 1)).any():
        return None
    good = np.zeros(len(rows), np.bool_)
    good[scored.places[scored.good == 1]] = True
    sample_of, samples = _samples(candidates, tries)
    spent = rows.known("gpu_s") + rows.known("wasted_s") * np.maximum(rows.known("group_size"), 1.0)
    has_good = np.zeros(samples, np.bool_)
    found, places, wins = [], [], []
    for number in np.unique(candidates.numbers[tries]):
        here = np.flatnonzero(tries & (candidates.numbers == number))
        won = good[here] & ~has_good[sample_of[here]]
        has_good[sample_of[here[won]]] = True
        places.append(here)
        wins.append(won)
        found.append(_tries(int(number), here, won, spent, accounts, good, roles))
    # The last tries alone may have won too little to tell what they cost.
    since = len(found) - 1
    while since > 1 and sum(one.won for one in found[since:]) < FEW:
        since -= 1
    last = _tries(
        found[since].number,
        np.concatenate(places[since:]),
        np.concatenate(wins[since:]),
        *(spent, accounts, good, roles),
    )
    without = samples - int(has_good.sum())
    return Redraws(
        samples=samples,
        with_good=samples - without,
        tries=found,
        advice=advise_redraws(found[0], last if since else None, found[-1].number, without),
    )


def _samples(candidates: CandidateRows, tries: Mask) -> tuple[Places, int]:
    """Number the samples: which one each try belongs to, and how many there are.

    The seed of a try follows from that of the try before it.
    """
    sample_of = np.full(len(tries), -1)
    samples = 0
    before: Places = np.empty(0, np.int64)
    for number in np.unique(candidates.numbers[tries]):
        here = np.flatnonzero(tries & (candidates.numbers == number))
        following = np.array([redraw_seed(int(s)) for s in candidates.seeds[before]], np.uint64)
        at = find(
            keys(candidates.content[here], candidates.seeds[here]),
            keys(candidates.content[before], following),
        )
        sample_of[here[at >= 0]] = sample_of[before[at[at >= 0]]]
        # A try whose forerunner is not in this prefix begins a sample.
        new = here[at < 0]
        sample_of[new] = samples + np.arange(len(new))
        samples += len(new)
        before = here
    return sample_of, samples


def _tries(
    number: int,
    here: Places,
    won: Mask,
    spent: Floats,
    accounts: Accounts,
    good: Mask,
    roles: RowRoles,
) -> RedrawTry:
    """Sum up tries at the given places, of which some won a sample."""
    count, device_s = int(won.sum()), float(spent[here].sum())
    price = float(accounts.row_dollars[here].sum())
    return RedrawTry(
        number=number,
        clips=int(roles.clips[here].sum()),
        failed=int(roles.failed[here].sum()),
        good=int(good[here].sum()),
        won=count,
        device_s=device_s,
        device_s_per_won=device_s / count if count else None,
        device_s_per_won_bounds=ratio_of_sums(spent[here], won.astype(np.float64))
        if count >= FEW and device_s
        else None,
        dollars_per_won=price / count if count and np.isfinite(price) else None,
    )


def advise_redraws(first: RedrawTry, last: RedrawTry | None, number: int, without: int) -> str:
    """Say whether one more try at the samples without a good clip pays.

    A good clip of one more try costs at least about as much as one of the last tries did, because
    the samples that are left are the harder ones. It is compared with a good clip of a first try,
    which is what a new prompt costs.

    Args:
        first: All first tries.
        last: The last tries together, from its number on; None if nothing was tried again.
        number: Of the last try.
        without: Samples without a good clip.
    """
    if not without:
        return "Every sample has a good clip, so one more try has nothing to win."
    left = f"{counted(without, 'sample', grouped=True)} without a good clip"
    if last is None:
        return f"No clip was tried again yet; there {are(without)} {left}."
    made = last.clips + last.failed
    which = f"Try {number}" if last.number == number else f"Tries {last.number} to {number}"
    said = (
        f"{which} won {counted(last.won, 'good clip', grouped=True)} in "
        f"{made:,} tr{'y' if made == 1 else 'ies'}"
    )
    if made < FEW or 0 < last.won < FEW or first.won < FEW:
        return f"{said}, too few to say whether one more try at {left} pays."
    if not last.won:
        return f"{said}, so one more try at {left} hardly pays."
    said += f", at {_cost(last)} each; a first try took {_cost(first)}"
    order = _order(last.device_s_per_won_bounds, first.device_s_per_won_bounds)
    if order < 0:
        return f"{said}. One more try at {left} pays if it wins as often."
    if order > 0:
        return (
            f"{said}. New prompts give good clips for less: one more try at {left} pays only where "
            "good clips of these very prompts are needed."
        )
    return (
        f"{said}. The intervals of both meet, so one more try at {left} costs about as much per "
        "good clip as new prompts do."
    )


def _order(one: Estimate | None, other: Estimate | None) -> int:
    """-1 if one value is below another by intervals that do not meet, 1 if above, else 0."""
    if one is None or other is None:
        return 0
    return (one.low > other.high) - (one.high < other.low)


def _cost(one: RedrawTry) -> str:
    """What a good clip of a try took."""
    return f"{one.device_s_per_won or 0.0:.3g} s of device time"
