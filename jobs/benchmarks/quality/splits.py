"""Which captions and seeds a measurement may use: three sets that share no caption and no seed.

Arms are fitted and tuned on `calibration`, chosen on `dev`, and measured once a release on
`held-out`. Captions of the demonstration model come from its grammar, of the combinations that it
was never trained on; those of any other model from a file, divided by their hash, so that a caption
stays in its set when the file grows.
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
"""Seeds count up from here, one per clip. Those of shipped profiles and other benchmarks start at
0 and 1,000."""

DEMO_CALIBRATION = Path(demo.__file__).parent / "calibration-prompts.txt"
DEMO_HELD_OUT = 64
"""Captions of the demonstration model's held-out set; `dev` gets the others."""

_ORDER_SEED = 2602


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """One clip to make.

    Attributes:
        caption: What it shows.
        seed: Of its noise.
    """

    caption: str
    seed: int


def split_clips(captions: Sequence[str], split: str, count: int) -> list[ClipSpec]:
    """Number the first captions of a set.

    What is fitted may need more clips than there are captions: those of `calibration` come again
    with other seeds. Measured clips never do, for clips of one caption are not independent.

    Raises:
        UserError: The set has fewer.
    """
    if count < 1 or not captions or (count > len(captions) and split != CALIBRATION):
        raise UserError(f"{count} clips: the {split} set has 1 to {len(captions)}")
    first = FIRST_SEED[split]
    return [ClipSpec(captions[i % len(captions)], first + i) for i in range(count)]


def captions_of(model: str, prompts: str, split: str) -> list[str]:
    """All captions of one set, in a fixed order.

    Args:
        model: Registry name.
        prompts: URI of a prompt file; "" for the demonstration model's own captions.
        split: One of `SPLITS`.

    Raises:
        UserError: The file cannot be used, or the model needs one.
    """
    if prompts:
        return _from_file(prompts, split)
    if model != "demo":
        raise UserError(f"model {model} has no captions of its own: give --prompts FILE")
    return demo_captions(split)


def demo_captions(split: str) -> list[str]:
    """The demonstration model's captions of one set."""
    from pipeline.models.demo.captions import ATTRIBUTES, Attributes, caption_of, combinations

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
    """The set of a caption: one eighth for calibration, three for dev, four held out."""
    bucket = hashlib.sha256(caption.encode()).digest()[0] % 8
    return CALIBRATION if bucket == 0 else DEV if bucket < 4 else HELD_OUT


def prompts_hash(clips: Sequence[ClipSpec]) -> str:
    """16 hex digits that name captions, seeds and their order."""
    text = "\n".join(f"{clip.seed} {clip.caption}" for clip in clips)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _from_file(uri: str, split: str) -> list[str]:
    from pipeline.prompts.reader import read_source

    rows = list(read_source(uri, "prompt"))
    if problems := [f"{row.key}: {row.problem}" for row in rows if row.problem]:
        raise UserError(problems[0])
    captions = dict.fromkeys(str(row.values["prompt"]).strip() for row in rows)
    return [caption for caption in captions if hashed_split(caption) == split]
