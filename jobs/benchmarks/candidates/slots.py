"""The clips that are chosen among, as a run of `jobs/generate.py` would ask for them.

Told everything, the model shows everything, and there is nothing to choose. So the captions leave
the speed open, and the judge still wants that of the whole caption, which stands in the column
`wanted` of the row: about half of the clips are right, and the seed decides.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from jobs.benchmarks.demo_model.caption_judge import WANTED
from jobs.benchmarks.demo_model.captions import caption_of, parse_caption
from jobs.benchmarks.quality.splits import DEV, FIRST_SEED, HELD_OUT, demo_captions
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest, canonical_json

MODEL = "demo"
FINISHED_NFE, STEPS = 17, 50
JUDGE = "jobs.benchmarks.demo_model.caption_judge:CaptionJudge"
"""What `--scorers` takes for the judge of captions."""


def add_slot_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which clips are made."""
    parser.add_argument("--split", choices=(DEV, HELD_OUT), default=HELD_OUT)
    parser.add_argument("--prompts", type=int, default=64, help="captions, at most 64")


def model() -> ResolvedModel:
    """The embedded model."""
    return resolve_model(MODEL)


def run_config(settings: Mapping[str, Any]) -> RunConfig:
    """Settings of a run, under their names in a YAML file."""
    return RunConfig.model_validate({"prompts": "-", "output": "-", **settings})


def slots(config: RunConfig, split: str, count: int) -> list[SampleRequest]:
    """Requests of a run over captions of a set, one for each.

    Args:
        config: The run's settings.
        split: Of `jobs.benchmarks.quality.splits`.
        count: Captions.

    Raises:
        UserError: The set has fewer captions.
    """
    captions = demo_captions(split)
    if not 1 <= count <= len(captions):
        raise UserError(f"--prompts {count}: the {split} set has 1 to {len(captions)}")
    defaults = request_defaults(config, model())
    made = []
    for row, caption in enumerate(captions[:count]):
        prompt = caption_of(dataclasses.replace(parse_caption(caption), speed=None))
        seed = FIRST_SEED[split] + row
        request = build_request({"prompt": prompt, "seed": seed}, defaults, f"-:{row}")
        made.append(dataclasses.replace(request, source=canonical_json({WANTED: caption})))
    return made
