"""The arms of the cache benchmark: one model and several ways to sample the same clips."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jobs.benchmarks.sampling.compare import CONTROL, fewer_steps
from pipeline.config.run_config import RunConfig
from pipeline.engine.factory import engine_factory
from pipeline.engine.protocol import Engine
from pipeline.errors import RowRejectedError, UserError
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest

FEWER_STEPS = (33, 25, 21, 17)
"""Steps of the baseline without a cache: the NFE points of publications on 50-step runs."""


def cache_arms(
    model: str,
    model_path: str,
    prompts: str,
    clips: int,
    *,
    epsilons: Sequence[float],
    max_reuse: int,
) -> tuple[Engine, dict[str, list[SampleRequest]], int]:
    """Load a model and make the requests of all arms.

    Args:
        model: Name in the model registry.
        model_path: As in `resolve_model`.
        prompts: URI of a prompt file; seeds are the row numbers, so all arms share them.
        clips: Number of rows to use.
        epsilons: Thresholds, one cached arm for each.
        max_reuse: Largest number of consecutive reuses in the cached arms.

    Returns:
        The engine, the requests of each arm, and the samples per engine call that suit the model.

    Raises:
        UserError: Model or prompts cannot be used.
    """
    resolved = resolve_model(model, model_path)

    def requests(**cache: object) -> list[SampleRequest]:
        return clip_requests(resolved, prompts, clips, **cache)

    uncached = requests(policy="none")
    arms = {CONTROL: uncached}
    for epsilon in epsilons:
        arms[f"SenCache epsilon {epsilon:g}, n {max_reuse}"] = requests(
            policy="paper", epsilon=epsilon, max_reuse=max_reuse
        )
    for steps in FEWER_STEPS:
        if steps < uncached[0].num_inference_steps:
            arms[f"{steps} steps"] = fewer_steps(uncached, steps)
    config = RunConfig.model_validate({"prompts": prompts, "output": "-"})
    return engine_factory(config, resolved)(), arms, resolved.spec.batch_rows


def clip_requests(
    resolved: ResolvedModel, prompts: str, clips: int, **cache: object
) -> list[SampleRequest]:
    """Return requests for the first prompts of a file, with the model's own settings.

    Args:
        resolved: The model.
        prompts: URI of a prompt file; seeds are the row numbers.
        clips: Number of rows to use; fewer if the file is shorter.
        **cache: Fields of the cache settings.

    Raises:
        UserError: No clips are asked for, or the file or one of its rows cannot be used.
    """
    if clips < 1:
        raise UserError(f"{clips} clips: at least 1 is needed")
    read = list(itertools.islice(read_source(prompts, "prompt"), clips))
    if problems := [f"{row.key}: {row.problem}" for row in read if row.problem]:
        raise UserError(problems[0])
    config = RunConfig.model_validate({"prompts": prompts, "output": "-", "cache": cache})
    defaults = request_defaults(config, resolved)
    try:
        return [
            build_request({**row.values, "seed": seed}, defaults, f"{prompts}:{seed}")
            for seed, row in enumerate(read)
        ]
    except RowRejectedError as error:
        raise UserError(f"{prompts}: {error}") from error
