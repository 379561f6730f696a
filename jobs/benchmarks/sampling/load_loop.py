"""Loads the denoising loop of a model from command-line options."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from jobs.benchmarks.sampling.denoising_loop import DenoisingLoop
    from sencache import SensitivityProfile


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `load_loop` reads."""
    parser.add_argument("--model", default="demo")
    parser.add_argument("--model-path", default="", help="as for jobs/generate.py")
    # Named as in jobs/generate.py, whose messages about profiles name it so.
    parser.add_argument(
        "--cache.profile",
        dest="profile",
        metavar="FILE",
        default="",
        help="sensitivity profile; default: the model's",
    )
    parser.add_argument("--prompts", default="jobs/configs/demo-prompts.txt")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--steps", type=int, default=0, help="of the sampler; default: the model's")


def load_loop(options: argparse.Namespace, rows: int) -> tuple[DenoisingLoop, SensitivityProfile]:
    """Load the model and encode its first prompts; seeds are the row numbers.

    Args:
        options: Options of `add_model_arguments`.
        rows: Rows of the batch.

    Returns:
        The loop and the model's sensitivity profile.

    Raises:
        UserError: Model, profile, prompts or device cannot be used.
    """
    from jobs.benchmarks.sampling.cache_arms import clip_requests
    from jobs.benchmarks.sampling.denoising_loop import make_loop
    from pipeline.config.cache_section import CacheConfig
    from pipeline.engine.device import pick_device
    from pipeline.models.load import load_pipeline
    from pipeline.models.profile import load_profile
    from pipeline.models.resolve import resolve_model

    resolved = resolve_model(options.model, options.model_path)
    profile = load_profile(CacheConfig(policy="paper", profile=options.profile), resolved)
    assert profile is not None  # noqa: S101 - load_profile gives the prior at least
    requests = clip_requests(resolved, options.prompts, rows, policy="none")
    if len(requests) < rows:
        raise UserError(f"{options.prompts} holds {len(requests)} prompts, {rows} are needed")
    if options.steps:
        requests = [dataclasses.replace(r, num_inference_steps=options.steps) for r in requests]
    pipe = load_pipeline(resolved, str(pick_device(options.device)))
    return make_loop(resolved.spec, pipe, requests), profile
