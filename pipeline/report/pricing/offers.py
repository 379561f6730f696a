"""Estimates what clips would cost on rented GPUs, before any clip is made.

Device seconds are estimated from the shape of the network (`pipeline.report.pricing.cost_model`);
dollars are list prices. Nothing is measured, and the table says so. Knows nothing of output rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.models.memory.cards import TIGHT_NOTE
from pipeline.report.pricing.cost_model import (
    DEVICES,
    MFU,
    NETWORKS,
    SIZES,
    SPLIT_EFFICIENCY,
    STEPS,
    NetworkShape,
    clip_cost,
    is_tight,
    said_of_peaks,
    smallest_group,
)
from pipeline.report.pricing.prices import ListPrice, Market
from pipeline.report.text import NONE

Kind = tuple[NetworkShape, str]
"""A network and the name of a size."""


@dataclass(frozen=True, slots=True)
class OfferCost:
    """The cost of 1,000 clips of one kind on one type of GPU.

    Attributes:
        ranks: GPUs of a group: the fewest that fit the model into memory; 0 if none do.
        dollars: Cost at each budget; empty if no group fits.
        is_tight: Whether it fits with so little to spare that it may fail.
    """

    ranks: int
    dollars: tuple[float, ...]
    is_tight: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A line of the price table, and what clips would cost at it.

    Attributes:
        line: The line of the price table.
        dollars_per_hour: Price of one GPU on the chosen market.
        costs: One cost for each kind of clip.
    """

    line: ListPrice
    dollars_per_hour: float
    costs: tuple[OfferCost, ...]


def parse_kinds(text: str) -> list[Kind]:
    """Read `wan2.1-t2v-1.3b:480p,wan2.1-t2v-14b:720p`.

    Raises:
        UserError: The cost of a model or size cannot be estimated.
    """
    kinds = []
    for item in text.split(","):
        model, _, size = item.strip().partition(":")
        if model not in NETWORKS or size not in SIZES:
            raise UserError(
                f"--estimate {item}: should be MODEL:SIZE with a model of {', '.join(NETWORKS)} "
                f"and a size of {', '.join(SIZES)}; others have to be measured"
            )
        kinds.append((NETWORKS[model], size))
    return kinds


def offers(
    kinds: Sequence[Kind], budgets: Sequence[float], table: Sequence[ListPrice], market: Market
) -> list[Offer]:
    """Price kinds of clips at every offer for a known GPU, the cheapest first.

    Args:
        kinds: Kinds of clips to price.
        budgets: Shares of computed steps.
        table: List prices.
        market: Which of the list prices to use.
    """
    found = []
    for line in table:
        price = line.on_demand if market == "on-demand" else line.spot
        gpu = device_of(line.gpu)
        if price is not None and gpu is not None:
            costs = tuple(_cost(*kind, gpu, budgets, price) for kind in kinds)
            found.append(Offer(line, price, costs))
    return sorted(
        found, key=lambda offer: [cost.dollars or (float("inf"),) for cost in offer.costs]
    )


def no_offer(table: Sequence[ListPrice], cloud: str, market: Market) -> str:
    """Say that the table has no such price, and which it has.

    Args:
        table: List prices of all clouds.
        cloud: The cloud that was asked for, "" for all.
        market: The market that was asked for.
    """
    priced: dict[str, set[str]] = {"on-demand": set(), "spot": set()}
    for line in table:
        if device_of(line.gpu) is not None:
            for name, price in (("on-demand", line.on_demand), ("spot", line.spot)):
                if price is not None:
                    priced[name].add(line.cloud)
    there = "; ".join(
        f"{name} prices of {', '.join(sorted(clouds))}" for name, clouds in priced.items() if clouds
    )
    of = f" of {cloud.lower()}" if cloud else ""
    return (
        f"No {market} price{of} for a GPU whose speed is known: the price table has "
        f"{there or 'none at all'} (--cloud, --market, --price-table)"
    )


def device_of(product: str) -> str | None:
    """Return the key in `DEVICES` for a product of a price table, None if there is none."""
    words = product.lower().split()
    fitting = [name for name in DEVICES if set(name.lower().split()) <= set(words)]
    return max(fitting, key=lambda name: len(name.split()), default=None)


def evaluations(budget: float) -> int:
    """Return the network evaluations of a clip at a budget; the report's what-if rounds alike."""
    return max(1, round(budget * STEPS))


def _cost(
    network: NetworkShape, size: str, gpu: str, budgets: Sequence[float], price: float
) -> OfferCost:
    ranks = smallest_group(network, size, gpu)
    if not ranks:
        return OfferCost(0, ())
    cost = clip_cost(network, size, gpu)
    each = cost.evaluation_s / SPLIT_EFFICIENCY[ranks]  # device seconds: all ranks together
    seconds = [cost.fixed_s * ranks + evaluations(budget) * each for budget in budgets]
    dollars = tuple(device_s / 3600 * price * 1000 for device_s in seconds)
    return OfferCost(ranks, dollars, is_tight(network, size, gpu, ranks))


def markdown(found: Sequence[Offer], kinds: Sequence[Kind], budgets: Sequence[float]) -> list[str]:
    """Return the lines of the table as Markdown, and a paragraph on how to read its numbers."""
    names = [f"{network.name} {size}" for network, size in kinds]
    columns = ["GPU", "offer", "$ per GPU-hour", "price as of", *names]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for offer in found:
        line = offer.line
        cells = [line.gpu, f"{line.cloud} {line.product}", f"{offer.dollars_per_hour:.2f}"]
        cells += [line.date.isoformat(), *(_cell(cost) for cost in offer.costs)]
        lines.append("| " + " | ".join(cells) + " |")
    counts = " / ".join(str(evaluations(budget)) for budget in budgets)
    gpus = (device_of(offer.line.gpu) for offer in found)
    return [
        *lines,
        "",
        f"Dollars per 1,000 clips at {counts} network evaluations of {STEPS}. Seconds are "
        f"estimated from the network's shape at {MFU:.0%} of the GPU's peak, none was measured; "
        f"{said_of_peaks(filter(None, gpus))}; "
        "device time alone, without loading, idle time, disks and traffic. P: the fewest GPUs of "
        f"a group, where more than one; tight: {TIGHT_NOTE}; –: it fits "
        "no group. Prices: list prices on the given day, sources in "
        "pipeline/report/pricing/prices.yaml.",
    ]


def _cell(cost: OfferCost) -> str:
    if not cost.ranks:
        return NONE
    group = f" (P = {cost.ranks})" if cost.ranks > 1 else ""
    each = " / ".join(f"{dollars:.0f}" for dollars in cost.dollars)
    return f"{each}{group}{', tight' if cost.is_tight else ''}"
