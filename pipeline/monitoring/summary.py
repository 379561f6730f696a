"""What a run says before it starts and after it ends; every number is counted, none is derived."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.config.cache_section import CacheConfig
from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import Sign
from pipeline.dataset.recovery import Recovery
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.progress import duration
from pipeline.monitoring.projection import Projection
from pipeline.monitoring.totals import RunTotals
from pipeline.requests.intake import InputCounts
from pipeline.storage.faults import redact


def say_input(
    console: Console,
    config: RunConfig,
    resolved: ResolvedModel,
    counts: InputCounts,
    steps: Mapping[int, int],
) -> None:
    """Say what the input holds and what is left to do.

    Args:
        console: Where to.
        config: Of the run.
        resolved: The model.
        counts: What became of the input.
        steps: How many clips to make have so many sampler steps.
    """
    console.print(
        f"[bold]{redact(config.prompts)}[/] to [bold]{redact(config.output)}[/] "
        f"with {resolved.spec.name} ({resolved.revision[:16]}), cache {config.cache.policy}",
        highlight=False,
    )
    parts = [f"{counts.read} rows", f"{counts.pending} clips to make", f"{counts.done} done before"]
    if counts.done_failed:
        parts[2] += f", {counts.done_failed} of them failed (--retry-failed tries them again)"
    if counts.controls:
        parts[1] += f", {counts.controls} of them uncached controls"
    if counts.duplicates:
        parts.append(f"{counts.duplicates} duplicates (equal requests are made once)")
    if counts.rejected:
        parts.append(f"{counts.rejected} rejected")
    console.print(" · ".join(parts), highlight=False)
    if config.cache.policy == "planned":
        for number, clips in sorted(steps.items()):
            console.print(_plan(config.cache, number, clips), highlight=False)
    if not config.dry_run and not counts.pending and counts.done:
        console.print("Everything is done already; nothing to make.", highlight=False)


def say_dry_run(console: Console, config: RunConfig, projection: Projection) -> None:
    """Say what a run would cost, and that it did not happen."""
    if projection.clips:
        console.print(_projected(config, projection), highlight=False)
    console.print("Dry run: nothing was made.", highlight=False)


def _projected(config: RunConfig, projection: Projection) -> str:
    if projection.device_s is None:
        return "Cost of what is left: unknown, for no clip of this prefix has been made yet"
    total = projection.total_s
    money = ""
    if config.gpu_price_per_hour is not None:
        money = f", ${total / 3600 * config.gpu_price_per_hour:.2f}"
    return (
        f"Cost of what is left: about {duration(total)} of device time{money}, at "
        f"{projection.device_s:.2f} s a clip, the mean of the latest {projection.measured} here"
    )


def say_neighbours(console: Console, alive: Sequence[Sign]) -> None:
    """Say that another run seems to write into the same prefix."""
    for sign in alive:
        console.print(
            f"[bold red]ANOTHER RUN WRITES INTO THIS PREFIX:[/] {sign.run_id} (process "
            f"{sign.where}) gave a sign of life {sign.age_s:.0f} s ago. If it is still alive, stop "
            "one of the two: they do no harm to each other, but make the same clips twice.",
            highlight=False,
        )


def say_bad_nodes(console: Console, bad: Mapping[str, Sequence[str]]) -> None:
    """Say which nodes were taken out of service, and what showed them to be bad."""
    for node, samples in bad.items():
        console.print(
            f"[bold red]Node {node} killed whatever ran on it[/] and got no more work; look at "
            f"its devices. {', '.join(samples)} died there one after another and were tried "
            "elsewhere.",
            highlight=False,
        )


def say_second_tries(console: Console, samples: int, nodes: Collection[str]) -> None:
    """Say that samples which were given up on some nodes are tried on others."""
    console.print(
        f"Tried on other nodes now: {samples} of the samples that died on {', '.join(nodes)}, "
        "where nothing was made since.",
        highlight=False,
    )


def say_recovery(console: Console, found: Recovery) -> None:
    """Say what a killed run had left, if one was looked after."""
    if not found.after:
        return
    state = "has not ended yet" if found.goes_on else "did not end"
    text = f"Run {found.after} {state}: {found.rows.num_rows} of its clips had no row yet"
    text += " and are taken over" if found.rows.num_rows else ""
    if found.damaged:
        text += f"; {found.damaged} more are damaged and will be made again"
    console.print(text, highlight=False)


def _plan(cache: CacheConfig, steps: int, clips: int) -> str:
    """Say how many steps a planned run computes; with a gate this number is a mean."""
    least, most = cache.planned_nfe(steps)
    gate = cache.gate
    if gate and least < steps:
        return (
            f"planned: {least + gate} of {steps} steps computed (NFE) for a hard clip and "
            f"{least - 1} for another, {least} in the mean if one in {gate + 1} is hard; "
            f"{clips} clips"
        )
    nfe = f"exactly {least}" if least == most else f"{least} to {most}"
    return f"planned: {nfe} of {steps} steps computed (NFE) for each of {clips} clips"


def say_result(console: Console, config: RunConfig, tally: RunTotals, interrupted: bool) -> None:
    """Say what was made, what it took and where it lies."""
    table = Table(show_header=False, box=None, pad_edge=False)
    controls = f", {tally.controls} controls" if tally.controls else ""
    made = f"{tally.clips} ok, {tally.failed} failed, {tally.rejected} rejected rows"
    table.add_row("clips", made + controls)
    device_s = sum(tally.spent.values())
    if tally.clips:
        own_s = device_s - tally.control_gpu_s  # as the report has it: failed attempts included
        table.add_row("device time", f"{duration(device_s)}, {own_s / tally.clips:.2f} s a clip")
        if own_s > 0:  # an engine can be too quick for the clock
            rate = tally.video_s / own_s * 3600
            table.add_row("throughput", f"{rate:.0f} s of video per device-hour")
        table.add_row("reused", f"{tally.reuse_ratio:.1%} of {tally.steps} steps")
        if config.gpu_price_per_hour is not None:
            price = config.gpu_price_per_hour / 3600
            each = own_s * price / tally.clips
            table.add_row("cost", f"${device_s * price:.4f}, ${each:.6f} a clip")
    table.add_row("output", redact(config.output))
    console.print(table, highlight=False)
    if interrupted:
        console.print("Interrupted; run the same command again and it goes on.", highlight=False)
