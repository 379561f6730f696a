"""What a run prints before it starts and while it goes on: input, expected cost, recovery."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.config.cache_section import CacheConfig
from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import part_files
from pipeline.errors import StorageError
from pipeline.models.spec import ResolvedModel
from pipeline.monitoring.console import say, text_of
from pipeline.monitoring.progress import duration
from pipeline.prompts.column_names import check_named
from pipeline.prompts.prompt_file import ReadNotes
from pipeline.requests.columns import ColumnUse
from pipeline.requests.reasons import InputCounts, Reasons
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.places import host_note
from pipeline.storage.storage import Storage
from pipeline.streaming.expected import Expected
from pipeline.wording import called_as, counted, dollars, place_of_row

LATEST_PARTS = 20
"""Parts from which the cost of a clip is taken: settings may have changed since the first clips."""

SIZE = ("width", "height", "num_frames", "num_inference_steps")
"""Columns that what a clip costs follows from, besides its settings."""

COUNTED = Expected(0)
"""Of an input that is read to its end before the first clip."""

TOP_CAUSES = 5
"""Reasons of rejected rows that are printed, the most frequent ones."""


def say_input(
    console: Console,
    config: RunConfig,
    resolved: ResolvedModel,
    counts: InputCounts,
    steps: Mapping[int, int],
    reasons: Reasons | None = None,
    expected: Expected = COUNTED,
) -> None:
    """Print what the input holds and what is left to make.

    Args:
        console: Prints it.
        config: The run's settings.
        resolved: The model.
        counts: What became of the input.
        steps: Clips to make by their number of sampler steps.
        reasons: Why rows are rejected.
        expected: What the run will make, where the input is read while it makes clips.
    """
    say(
        console,
        text_of(config.prompts, "bold"),
        " to ",
        text_of(config.output, "bold"),
        f"{host_note(config.output)} with {resolved.spec.name} ({resolved.revision[:16]}), "
        f"cache {config.cache.policy}",
    )
    for note in resolved.notes:
        say(console, note)
    text = counts_text(counts)
    if not expected.is_exact:
        of = f" of about {expected.rows:,}" if expected.rows else ""
        first = counted(expected.read, "row", grouped=True)
        text = f"The first {first}{of}: {text.partition(' · ')[2]}"
    console.print(text, highlight=False)
    if not expected.is_exact:
        say(
            console,
            f"About {counted(expected.requests, 'clip', grouped=True)} to make in all, as the size "
            "of the input tells. It is read while clips are made; totals and ETA are exact when "
            "all rows are read.",
        )
    for line in remarks(counts, reasons or Reasons(), dry_run=config.dry_run):
        say(console, line)
    if config.cache.policy == "planned":
        usual = config.sampling.num_inference_steps or resolved.spec.defaults.num_inference_steps
        for number, clips in sorted(steps.items()):
            some = counted(clips, "clip") + ("" if expected.is_exact else " so far")
            plan = _plan(config.cache, number, some)
            if number != usual:
                plan += "; their rows set num_inference_steps, and the same profile plans them"
            console.print(plan, highlight=False)
    if not config.dry_run and not counts.pending and counts.done:
        console.print("Everything is done already; nothing to make.", highlight=False)


def counts_text(counts: InputCounts) -> str:
    """What became of the input, in one line."""
    parts = [
        counted(counts.read, "row"),
        f"{counted(counts.pending, 'clip')} to make",
        f"{counts.done} done before",
    ]
    if counts.done_controls:
        parts[2] += f" ({counted(counts.done_controls, 'control')} among them)"
    if counts.done_failed:
        parts[2] += f", {counts.done_failed} of them failed (--retry-failed tries them again)"
    if counts.redraws:
        parts[1] += f", {counted(counts.redraws, 'redraw')} of clips that are not good among them"
    if counts.controls:
        parts[1] += f", {counted(counts.controls, 'uncached control')} among them"
    if counts.duplicates:
        parts.append(f"{counted(counts.duplicates, 'duplicate')} (equal requests are made once)")
    if counts.rejected:
        parts.append(f"{counts.rejected} rejected")
    return " · ".join(parts)


def say_columns(console: Console, columns: ColumnUse, notes: ReadNotes) -> None:
    """Print what was not read, and which columns set something, gave way to a flag, or are kept.

    Raises:
        UserError: A column that `--columns` names is nowhere in the input.
    """
    check_named(columns.missing(), notes.names)
    for line in (*notes.lines(), *columns.lines()):
        say(console, line)


def say_lines(console: Console, lines: Iterable[str]) -> None:
    """Print remarks, one line each."""
    for line in lines:
        say(console, line)


def remarks(counts: InputCounts, reasons: Reasons, *, dry_run: bool = False) -> Iterator[str]:
    """What was left out of the input, read otherwise than written, or rejected, and why."""
    if counts.markers:
        cells = counted(counts.markers, "cell")
        yield f"Read as empty: {cells} with nan, None, null or the like"
    if counts.unread_negatives:
        prompts = counted(counts.unread_negatives, "negative prompt")
        yield f"Left out: {prompts}, because nothing reads one where guidance is off"
    if counts.empty_negatives:
        rows = counted(counts.empty_negatives, "row")
        yield (
            f'Without a negative prompt: {rows} with "", which replaces the default. null, or no '
            "such column, takes the default"
        )
    if counts.lone_controls:
        controls = counted(counts.lone_controls, "control")
        yield (
            f"Made again to be compared: the clips of {controls}, because the stored clips have "
            "lost details to H.264. Nothing of them is stored twice; their time counts as time "
            "of controls"
        )
    causes = reasons.top(TOP_CAUSES)
    for cause in causes:
        yield f"  {cause.rows} rejected: {cause.message[:300]} (first: {place_of_row(cause.place)})"
    others = reasons.rows - sum(cause.rows for cause in causes)
    if others:
        where = "a run writes them into the output rows" if dry_run else "the output rows say them"
        yield f"  {others} rejected for other reasons; {where}"


def say_dry_run(
    console: Console,
    config: RunConfig,
    storage: Storage,
    template: SampleRequest,
    own: Collection[str],
    clips: int,
    cached: int,
) -> None:
    """Print what the clips to make would cost, and that none was made.

    Args:
        console: Prints it.
        config: The run's settings.
        storage: The output prefix.
        template: What rows of the input inherit; clips of its size and steps tell the cost.
        own: Settings of the clips that the run makes (`pipeline.requests.run_settings`).
        clips: Clips to make.
        cached: Those of them that are no controls or first clips.

    Raises:
        StorageError: The latest parts, which tell what earlier clips cost, cannot be read.
    """
    if clips:
        earlier_s = _earlier_device_seconds(storage, template, own)
        cost = _cost(config.gpu_price_per_hour, clips, earlier_s)
        console.print(cost, highlight=False)
    if cached and config.cache.policy == "planned" and config.cache.budget is None:
        say(
            console,
            "NFE of planned clips: said with the first of them, because a dry run does not load "
            "the sampler; --cache.budget fixes it beforehand",
        )
    console.print("Dry run: nothing was made.", highlight=False)


def _cost(price_per_hour: float | None, clips: int, earlier_s: Sequence[float]) -> str:
    if not earlier_s:
        return (
            "Cost of what is left: unknown until this prefix holds a first clip of these settings "
            f"and of this size; {called_as('report')} --estimate knows some models on some GPUs"
        )
    clip_s = sum(earlier_s) / len(earlier_s)
    money = ""
    if price_per_hour is not None:
        money = f", {dollars(clips * clip_s / 3600 * price_per_hour)}"
    return (
        f"Cost of what is left: about {duration(clips * clip_s)} of device time{money}, at "
        f"{clip_s:.2f} s a clip, the mean of the latest {counted(len(earlier_s), 'such clip')} here"
    )


def _earlier_device_seconds(
    storage: Storage, template: SampleRequest, own: Collection[str]
) -> list[float]:
    """Device seconds of each such clip in the latest parts, without failed attempts."""
    alike = {name: getattr(template, name) for name in SIZE}
    seconds: list[float] = []
    for part in part_files(storage)[-LATEST_PARTS:]:
        try:
            file = pq.ParquetFile(BytesIO(storage.read_bytes(part.key)))
            table = file.read(["status", "gpu_s", "settings", *alike], use_threads=False)
        except (pa.ArrowException, KeyError) as error:
            raise StorageError(f"{storage.uri}/{part.key} is damaged: {error}") from error
        counts = pc.is_in(table["settings"], pa.array(own, pa.string()))
        for name, value in {"status": "ok", **alike}.items():
            counts = pc.and_(counts, pc.equal(table[name], value))
        seconds += table.filter(counts)["gpu_s"].to_pylist()
    return seconds


def _plan(cache: CacheConfig, steps: int, clips: str) -> str:
    """Say how many steps a planned run computes; with a gate this number is a mean."""
    least, most = cache.planned_nfe(steps)
    limit, gate = cache.to_sencache().error_limit, cache.gate
    if cache.budget is None and least < steps:
        return (
            f"planned: the fewest of {steps} steps with a predicted error of at most {limit:.2g} "
            f"of the latents, the same number for {_each(clips)}"
        )
    if gate and least < steps:
        return (
            f"planned: {least + gate} of {steps} steps computed (NFE) for a hard clip and "
            f"{least - 1} for another, {least} in the mean if one in {gate + 1} is hard; "
            f"{clips}"
        )
    nfe = f"exactly {least}" if least == most else f"{least} to {most}"
    text = f"planned: {nfe} of {steps} steps computed (NFE) for {_each(clips)}"
    return text if cache.budget is not None else f"{text}: a run of so few steps reuses none"


def _each(clips: str) -> str:
    """Counted clips, of which each has the same."""
    return clips if clips.startswith("1 ") else f"each of {clips}"


def say_bad_nodes(console: Console, bad: Mapping[str, Sequence[str]]) -> None:
    """Print which nodes were taken out of service, and which samples showed them to be bad."""
    for node, samples in bad.items():
        say(
            console,
            text_of(f"Node {node} killed whatever ran on it", "bold red"),
            f" and got no more work; look at its devices. {', '.join(samples)} died there one "
            "after another and were tried elsewhere.",
        )


def say_left_out(console: Console, nodes: Mapping[str, str]) -> None:
    """Print which nodes could not load the model, and why."""
    for node, reason in nodes.items():
        say(
            console,
            text_of(f"Node {node} could not load the model", "bold red"),
            f" and was left out; look into that node. The error: {reason}",
        )


def say_second_tries(console: Console, samples: int, nodes: Collection[str]) -> None:
    """Print that samples which failed on some nodes, or in processes, are now tried on others."""
    where, whence = "on other nodes", f"died on {', '.join(nodes)}, where"
    if not nodes:
        where, whence = "in other processes", "failed in processes where"
    say(
        console,
        f"Tried {where} now: {samples} of the samples that {whence} nothing was made since.",
    )
