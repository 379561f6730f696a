"""`scorers`: how many planted faults and duplicates the scores find, at 1 % of false alarms.

Takes the clips of any dataset. A score's threshold is the one that 1 % of the clips as they are
exceed; a fault counts as found where the score of the clip with the fault lies beyond it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from jobs.benchmarks.scoring.faults import FAULTS, cropped
from jobs.benchmarks.tables import table
from pipeline.errors import UserError
from pipeline.scoring.scorer import Frames

HELP = "planted faults and duplicates that the scores without weights find in a dataset's clips"
FALSE_ALARMS = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--output", default="", help="output prefix of a dataset")
    parser.add_argument("--clips", type=int, default=200, help="most clips")


def main(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, print and return everything.

    Raises:
        UserError: The dataset has too few clips.
    """
    if not options.output:
        raise UserError("--output: say which dataset, a folder or s3://bucket/prefix")
    clips, fps = _clips_of(options.output, options.clips)
    if len(clips) < 20:
        raise UserError(f"{options.output}: {len(clips)} clips are too few for a share of 1 %")
    faults = found_faults(clips, fps)
    copies = found_copies(clips)
    rows = [(name, each["score"], f"{each['found']:.1%}") for name, each in faults.items()]
    for bits, found in (("bits", "found"), ("report_bits", "report_found")):
        rows += [
            (name, f"perceptual hash, {each[bits]} bits", f"{each[found]:.1%}")
            for name, each in copies.items()
        ]
    alarms = report_alarms(clips)
    title = f"{len(clips)} clips, at {FALSE_ALARMS:.0%} of false alarms"
    console.print(table(title, ("fault", "score", "found"), rows))
    console.print(f"other pairs that the report takes for duplicates: {alarms:.3%}")
    return {"clips": len(clips), "faults": faults, "duplicates": copies, "report_alarms": alarms}


def found_faults(clips: Sequence[Frames], fps: float) -> dict[str, dict[str, Any]]:
    """Share of each planted fault that its score shows."""
    sound = [_scores(clip, fps) for clip in clips]
    rng = np.random.default_rng(0)
    found = {}
    for name, fault in FAULTS.items():
        sign = 1.0 if fault.higher else -1.0
        usual = np.array([sign * scores[fault.score] for scores in sound])
        threshold = np.quantile(usual, 1 - FALSE_ALARMS)
        spoiled = [
            fault.spoil(clip, clips[(place + 1) % len(clips)], rng)
            for place, clip in enumerate(clips)
        ]
        values = np.array([sign * _scores(clip, fps)[fault.score] for clip in spoiled])
        found[name] = {
            "score": fault.score,
            "threshold": float(sign * threshold),
            "found": float(np.mean(values > threshold)),
        }
    return found


def found_copies(clips: Sequence[Frames]) -> dict[str, dict[str, Any]]:
    """Share of each kind of near duplicate whose hash is near.

    Near is within as many bits as 1 % of pairs of other clips are, and within those of the report.
    """
    from pipeline.scoring.perceptual_hash import NEAR_BITS, clip_hash

    near = int(np.quantile(_distances(clips), FALSE_ALARMS))
    kinds: dict[str, Callable[[Frames], Frames]] = {
        "encoded again (crf 28)": lambda clip: _encoded(clip, 28),
        "cropped by 3 % a side": lambda clip: cropped(clip, 0.03),
        "cropped by 5 % a side": lambda clip: cropped(clip, 0.05),
        "both": lambda clip: _encoded(cropped(clip, 0.03), 28),
    }
    found = {}
    for name, change in kinds.items():
        bits = np.array([_distance(clip_hash(clip), clip_hash(change(clip))) for clip in clips])
        found[name] = {
            "bits": near,
            "found": float(np.mean(bits <= near)),
            "report_bits": NEAR_BITS,
            "report_found": float(np.mean(bits <= NEAR_BITS)),
        }
    return found


def report_alarms(clips: Sequence[Frames]) -> float:
    """Share of the pairs of different clips that the report takes for near duplicates."""
    from pipeline.scoring.perceptual_hash import NEAR_BITS

    return float(np.mean(np.array(_distances(clips)) <= NEAR_BITS))


def _distances(clips: Sequence[Frames]) -> list[int]:
    """Bits in which the hashes of each pair of clips differ."""
    from pipeline.scoring.perceptual_hash import clip_hash

    hashes = [clip_hash(clip) for clip in clips]
    return [_distance(one, other) for at, one in enumerate(hashes) for other in hashes[at + 1 :]]


def _distance(one: str, other: str) -> int:
    from pipeline.scoring.perceptual_hash import distance

    return distance(one, other) or 0


def _scores(clip: Frames, fps: float) -> dict[str, float]:
    from pipeline.scoring.detail import DetailScorer
    from pipeline.scoring.light import LightScorer
    from pipeline.scoring.movement import MovementScorer
    from pipeline.scoring.scorer import ScoredClip

    seen = [ScoredClip(clip, fps, "", {})]
    scorers = (LightScorer(), MovementScorer(), DetailScorer())
    return {name: value for each in scorers for name, value in each.score(seen)[0].items()}


def _encoded(clip: Frames, crf: int) -> Frames:
    """The clip after H.264."""
    from pipeline.dataset import mp4

    return mp4.decode(mp4.encode(clip, 8, {}, crf=crf))


def _clips_of(uri: str, most: int) -> tuple[list[Frames], float]:
    """The first clips of a dataset, by id, and their frame rate."""
    from pipeline.dataset import mp4
    from pipeline.dataset.whole_clips import read_clip
    from pipeline.scoring.score_prefix import clip_rows
    from pipeline.scoring.stored_scores import read_stored
    from pipeline.storage.storage import Storage

    storage = Storage(uri)
    rows = [row for t in clip_rows(storage, read_stored(storage)) for row in t.to_pylist()]
    rows = sorted(rows, key=lambda row: row["sample_id"])[:most]
    return [mp4.decode(read_clip(storage, row)) for row in rows], float(rows[0]["fps"])
