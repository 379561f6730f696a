"""Works out all numbers of a report from the rows of a prefix. Writes and shows nothing."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dataset.parts import tell_missing
from pipeline.dataset.whole_clips import missing_media
from pipeline.errors import StorageError
from pipeline.report.accounts import Accounts, account
from pipeline.report.bootstrap import mean
from pipeline.report.candidates.candidate_rows import read_candidates
from pipeline.report.candidates.own_drafts import measure_drafts
from pipeline.report.candidates.redraws import measure_redraws
from pipeline.report.document import Headline, Report, ReportProjection, RunEntry, Totals
from pipeline.report.gallery import gallery, worst
from pipeline.report.good_clips.clips import read_scored_clips
from pipeline.report.good_clips.measure import measure_good_clips
from pipeline.report.good_clips.recaptions import measure_recaptions
from pipeline.report.pairs import ComparedPairs, measure_quality
from pipeline.report.pricing.prices import Prices
from pipeline.report.pricing.projections import BUDGETS, REST, project, what_if
from pipeline.report.rows import RowRoles, Rows
from pipeline.report.speedup import measure_speedup
from pipeline.report.tables import device_time, slices, steps
from pipeline.report.tables.causes import causes
from pipeline.report.tables.clip_kinds import mixed_note, run_seeds
from pipeline.report.tables.inputs import by_input, kept
from pipeline.report.tables.mixture import Mixture
from pipeline.report.tables.runs import lost_parts, lost_rows_notes, read_manifests, run_entries
from pipeline.report.tables.spans import throughput
from pipeline.report.verdict.sentences import verdict
from pipeline.storage.storage import Storage
from pipeline.tensors import tensor_file
from pipeline.wording import are, counted

LOST_SHOWN = 5
"""Missing clips that a report names."""


def measure(
    rows: Rows,
    prices: Prices,
    *,
    more_clips: int = 0,
    budgets: Sequence[float] = BUDGETS,
    all_duplicates: bool = False,
) -> Report:
    """Work out what a report says.

    Args:
        rows: Of the prefix.
        prices: What devices cost; prices in the runs' own configurations are added here.
        more_clips: Project the cost of so many further clips.
        budgets: Shares of steps for the what-if table.
        all_duplicates: Look for near duplicates however many clips there are.

    Raises:
        UserError: The stored condition of good clips is invalid.
        StorageError: There are no rows, or the record of a run cannot be read.
    """
    storage = rows.storage
    manifests = read_manifests(storage)
    lost_rows = lost_parts(storage, manifests)
    if not len(rows):
        hint = tell_missing(lost_rows) if lost_rows else "run a job first"
        raise StorageError(f"{storage.uri}: no output rows in data/part-*.parquet; {hint}")
    of_runs = {
        run_id: float(m["config"]["gpu_price_per_hour"])
        for run_id, m in manifests.items()
        if m.get("config", {}).get("gpu_price_per_hour") is not None
    }
    conditions, select_by = (
        {run_id: str(m.get("config", {}).get(name) or "") for run_id, m in manifests.items()}
        for name in ("keep", "select_by")
    )
    roles = RowRoles.of(rows)
    accounts = account(rows, roles, replace(prices, of_runs=of_runs))
    pairs = ComparedPairs.find(rows, roles)
    totals = _totals(rows, roles)
    span, stretches, buckets = throughput(rows, roles)
    mixture = Mixture.find(rows, roles.clips, run_seeds(manifests))
    quality = measure_quality(rows, pairs, mixture)
    clips = np.flatnonzero(roles.clips)
    scored = read_scored_clips(rows, roles, conditions)
    tries = read_candidates(rows)
    columns, left_out = by_input(rows, roles.clips, accounts, pairs, scored)
    policies, names = rows.codes("policy")
    runs = run_entries(rows, manifests, lost_rows)
    projections = project(rows, roles, accounts, runs, more_clips)
    speedup = measure_speedup(
        rows, pairs, controls_to_come=_controls_to_come(manifests, runs, projections)
    )
    notes = _notes(rows, accounts, pairs, prices)
    if mixture.is_mixed:
        notes.insert(0, mixed_note(mixture.kinds))  # the list of kinds follows the first note
    if lost_rows:
        notes.append(f"{tell_missing(lost_rows)}.")
    notes += lost_rows_notes(runs)
    lost = _lost(storage, rows, roles)
    if lost:
        notes.append(_lost_clips(lost))
    totals = totals.model_copy(update={"lost": len(lost)})
    apart = (m.get("config", {}).get("stages", {}).get("text") for m in manifests.values())
    if "separate" in apart:
        notes.append(
            "Some runs encoded texts in actors of their own (stages.text separate). Their device "
            "time is in no row and not in these sums."
        )
    report = Report(
        generated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        output=storage.uri,
        notes=notes,
        runs=runs,
        totals=totals,
        headline=_headline(rows, roles, pairs, totals, accounts, mixture),
        device_s=accounts.device_s,
        dollars=accounts.dollars,
        speedup=speedup,
        quality=quality,
        bucket_s=span,
        throughput=buckets,
        stretches=stretches,
        nodes=device_time.nodes(rows, roles),
        time=device_time.laps(rows, roles, accounts),
        nfe=steps.evaluations(rows, roles.clips),
        decisions=steps.decisions(rows, roles.clips),
        errors=steps.points(
            rows,
            clips,
            rows.numbers("predicted")[clips],
            rows.numbers("actual")[clips],
            (names[code] for code in policies[clips]),
        ),
        quality_by_nfe=steps.points(
            rows,
            pairs.clips,
            rows.known("nfe")[pairs.clips],
            rows.numbers("psnr_db")[pairs.controls],
            (names[code] for code in policies[pairs.clips]),
        ),
        cost_by_model=slices.slices(rows, roles.clips, accounts, "model"),
        cost_by_policy=slices.slices(rows, roles.clips, accounts, "policy"),
        cost_by_prompt=slices.prompt_slices(rows, roles.clips, accounts),
        failures=causes(rows, roles),
        projections=projections,
        what_if=what_if(rows, pairs, accounts, quality, budgets),
        gallery=gallery(rows, roles, pairs),
        worst=worst(rows, pairs),
        prices=accounts.used,
        settings=list(mixture.kinds),
        repeated_prompts=mixture.repeated_prompts(),
        kept=kept(rows, roles.clips),
        by_input=columns,
        inputs_left_out=left_out,
        good_clips=None
        if scored is None
        else measure_good_clips(rows, accounts, scored, mixture, all_duplicates=all_duplicates),
        recaptions=measure_recaptions(rows),
        redraws=measure_redraws(rows, roles, accounts, scored, tries) if tries else None,
        drafts=measure_drafts(rows, roles, scored, tries, select_by) if tries else None,
    )
    return report.model_copy(update={"verdict": verdict(report)})


def _controls_to_come(
    manifests: dict[str, dict[str, Any]],
    runs: Sequence[RunEntry],
    projections: Sequence[ReportProjection],
) -> bool:
    """Whether the latest run has samples left to make, and was to make controls among them."""
    fraction = manifests.get(runs[-1].run_id, {}).get("config", {}).get("control_fraction")
    return bool(fraction) and any(one.what.startswith(REST) for one in projections)


def _lost(storage: Storage, rows: Rows, roles: RowRoles) -> list[str]:
    """The files of clips that are not stored as their rows say, by listing alone."""
    ok = pa.array(np.flatnonzero(roles.clips | roles.controls), pa.int64())
    clips = missing_media(storage, rows.table["path"].take(ok), rows.table["media_bytes"].take(ok))
    saved = pa.array(np.flatnonzero(rows.known("tensor_bytes") * (roles.clips | roles.controls)))
    paths, sizes = (rows.table[name].take(saved) for name in ("tensor_path", "tensor_bytes"))
    return clips + missing_media(storage, paths, sizes, tensor_file.FOLDER)


def _lost_clips(lost: Sequence[str]) -> str:
    """Say which clips are not stored as their rows say.

    Args:
        lost: Their files.
    """
    names = ", ".join(lost[:LOST_SHOWN]) + (", …" if len(lost) > LOST_SHOWN else "")
    return (
        f"{counted(len(lost), 'file')} of ok rows {are(len(lost))} not stored as the row says: "
        f"missing, or of another size ({names}). The command that made them makes them again with "
        "--verify."
    )


def _totals(rows: Rows, roles: RowRoles) -> Totals:
    clips = roles.clips
    nfe = int(rows.known("nfe")[clips].sum())
    return Totals(
        rows=len(rows),
        samples=int(rows.counts.sum()),
        ok=int(clips.sum()),
        failed=int((roles.failed & ~roles.control).sum()),
        rejected=int(roles.rejected.sum()),
        controls=int(roles.controls.sum()),
        controls_failed=int((roles.failed & roles.control).sum()),
        superseded=int(roles.superseded.sum()),
        extra_attempts=int(np.maximum(rows.known("attempts") - 1, 0).sum()),
        video_s=float(rows.known("duration_s")[clips].sum()),
        media_bytes=int(rows.known("media_bytes")[clips].sum()),
        tensor_clips=int((rows.known("tensor_bytes")[clips] > 0).sum()),
        tensor_bytes=int(rows.known("tensor_bytes")[clips].sum()),
        steps=nfe + int(rows.known("reused")[clips].sum()),
        nfe=nfe,
        truncated=int(rows.known("prompt_truncated")[clips].sum()),
    )


def _headline(
    rows: Rows,
    roles: RowRoles,
    pairs: ComparedPairs,
    totals: Totals,
    accounts: Accounts,
    mixture: Mixture,
) -> Headline:
    codes, values = rows.codes("settings")
    compared = pairs.clips[np.isfinite(rows.numbers("psnr_db")[pairs.controls])]
    cached = np.flatnonzero(roles.clips & (rows.known("reused") > 0))
    alone = mixture.without(cached, compared) if len(compared) else cached[:0]
    paired = {values[code] for code in np.unique(codes[compared])}
    psnr = rows.numbers("psnr_db")[pairs.controls]
    psnr = psnr[np.isfinite(psnr)]
    device, money, ok = accounts.device_s, accounts.dollars, totals.ok
    useful = device.clips + device.failed_attempts
    return Headline(
        dollars_per_clip=(money.clips + money.failed_attempts) / ok if money and ok else None,
        dollars_per_clip_all_in=money.total / ok if money and ok else None,
        gpu_s_per_clip=useful / ok if ok else None,
        video_s_per_gpu_hour=device_time.per_hour(totals.video_s, useful),
        reuse_ratio=1 - totals.nfe / totals.steps if totals.steps else None,
        nfe_mean=totals.nfe / ok if ok else None,
        psnr_db=mean(psnr) if len(psnr) else None,
        psnr_worst=float(psnr.min()) if len(psnr) else None,
        quality_pairs=len(psnr),
        unpaired=len(alone),
        unpaired_settings=sorted({values[code] for code in np.unique(codes[alone])}),
        unpaired_kinds=mixture.names(alone),
        paired_settings=sorted(paired),
    )


def _notes(rows: Rows, accounts: Accounts, pairs: ComparedPairs, prices: Prices) -> list[str]:
    notes = list(accounts.unmatched)
    if accounts.unpriced:
        names = ", ".join(accounts.unpriced)
        known = f"No price is known for {names}"
        other = ", or --cloud for list prices"
        if clouds := sorted({line.cloud for line in prices.table}):
            known = (
                f"The list prices of {', '.join(clouds)} ({prices.market}) have none for {names}"
            )
            other = ""
        notes.append(f"{known}, so no money is shown: give --price DOLLARS per GPU-hour{other}.")
    dead = rows.having("error_type", "WorkerDied") & rows.counts
    if dead.any():
        samples = counted(int(dead.sum()), "sample")
        notes.append(
            f"{samples} ended with the death of the process. What a dead process had spent since "
            "its last row is in no row and not in these sums."
        )
    codes, values = rows.codes("worker_id")
    if len(rows) and any(not values[code] for code in np.unique(codes[rows.known("wall_s") > 0])):
        notes.append(
            "Some rows were written by a version that did not record processes: their loading and "
            "idle time is unknown and not in these sums."
        )
    if len(pairs.clips):
        notes.append(
            "Quality compares the frames of a cached clip with those of its uncached twin before "
            "either became an mp4; equal frames count as 100 dB."
        )
    return notes
