"""The captions and seeds of a measurement: three sets that share no caption and no seed.

Arms are fitted and tuned on `calibration`, chosen on `dev`, and measured once per release on
`held-out`. Captions of the embedded model come from its grammar, from combinations that it was
never trained on. Captions of other models come from a file and are divided by their hash, so that a
caption stays in its set when the file grows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.models import demo

CALIBRATION, DEV, HELD_OUT = SPLITS = ("calibration", "dev", "held-out")

FIRST_SEED = {CALIBRATION: 10_000, DEV: 20_000, HELD_OUT: 30_000}
"""First seed of each set; seeds count up, one per clip. Shipped profiles and other benchmarks use
seeds from 0 and from 1,000."""

DEMO_CALIBRATION = Path(demo.__file__).parent / "calibration-prompts.txt"
DEMO_HELD_OUT = 64
"""Captions of the embedded model's held-out set; `dev` gets the others."""

_ORDER_SEED = 2602


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """One clip to make.

    Attributes:
        caption: Caption of the clip.
        seed: Seed of its noise.
    """

    caption: str
    seed: int


def split_clips(captions: Sequence[str], split: str, count: int) -> list[ClipSpec]:
    """Return clips of the first captions of a set.

    Fitting may need more clips than there are captions: captions of `calibration` are repeated with
    other seeds. Captions of measured clips are not, because their clips would not be independent.

    Raises:
        UserError: The set has too few captions.
    """
    if count < 1 or not captions or (count > len(captions) and split != CALIBRATION):
        raise UserError(f"{count} clips: the {split} set has 1 to {len(captions)}")
    first = FIRST_SEED[split]
    return [ClipSpec(captions[i % len(captions)], first + i) for i in range(count)]


def captions_of(model: str, prompts: str, split: str) -> list[str]:
    """Return all captions of one set, in a fixed order.

    Args:
        model: Name of the model's spec.
        prompts: URI of a prompt file; "" for the own captions of the embedded model and of others
            of the sprite world.
        split: One of `SPLITS`.

    Raises:
        UserError: The file cannot be used, or the model needs one.
    """
    if prompts:
        return _from_file(prompts, split)
    from jobs.benchmarks.demo_model.shapes.catalogue import SPRITE_MODELS

    if model not in SPRITE_MODELS:
        raise UserError(f"model {model} has no captions of its own: give --prompts FILE")
    return demo_captions(split)


def demo_captions(split: str) -> list[str]:
    """Return the embedded model's captions of one set."""
    from jobs.benchmarks.demo_model.captions import ATTRIBUTES, Attributes, caption_of, combinations

    calibration = [line for line in DEMO_CALIBRATION.read_text().splitlines() if line.strip()]
    if split == CALIBRATION:
        return calibration
    words = list(ATTRIBUTES.values())
    untrained = [
        caption_of(Attributes(*(names[i] for names, i in zip(words, combination, strict=True))))
        for combination in combinations(held_out=True)
    ]
    others = [caption for caption in untrained if caption not in calibration]
    random.Random(_ORDER_SEED).shuffle(others)
    return others[:DEMO_HELD_OUT] if split == HELD_OUT else others[DEMO_HELD_OUT:]


def hashed_split(caption: str) -> str:
    """Return the set of a caption: one eighth are calibration, three dev, four held out."""
    bucket = hashlib.sha256(caption.encode()).digest()[0] % 8
    return CALIBRATION if bucket == 0 else DEV if bucket < 4 else HELD_OUT


def prompts_hash(clips: Sequence[ClipSpec]) -> str:
    """Return 16 hex digits that identify captions, seeds and their order."""
    text = "\n".join(f"{clip.seed} {clip.caption}" for clip in clips)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _from_file(uri: str, split: str) -> list[str]:
    from pipeline.prompts.reader import read_source

    rows = list(read_source(uri, "prompt"))
    if problems := [f"{row.key}: {row.problem}" for row in rows if row.problem]:
        raise UserError(problems[0])
    captions = dict.fromkeys(str(row.values["prompt"]).strip() for row in rows)
    return [caption for caption in captions if hashed_split(caption) == split]
