"""Runs that follow any plan: what measurements and rivals are made of, without a profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from sencache.config import SenCacheConfig
from sencache.families.base import Family
from sencache.hook.attachment import attach, detach
from sencache.hook.hook import SenCacheHook
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import boundary_of
from sencache.policies.planned import PlannedPolicy, Planner
from sencache.reuse.forecast import ForecastReuse
from sencache.stats import RunLog

HOOK_NAME = "sencache_following"


@contextmanager
def following(
    pipe: Any,
    networks: Sequence[tuple[torch.nn.Module, Family]],
    planner: Planner,
    order: int,
) -> Iterator[RunLog]:
    """Let a pipeline's runs follow a plan, and take everything off again.

    Args:
        pipe: The pipeline, without a cache.
        networks: Its networks and their families.
        planner: Makes the plan of a run.
        order: Outputs before the last one that the plan's mixes are made from.

    Yields:
        What happened, per sample.
    """
    schedule, log = SamplerPosition(lambda: pipe.scheduler, boundary_of(pipe)), RunLog()
    unit = int(pipe.scheduler.config["num_train_timesteps"])
    with ExitStack() as attached:
        for network, family in networks:
            hook = SenCacheHook(
                SenCacheConfig(policy="planned"),
                "",
                family,
                PlannedPolicy(planner, schedule, unit),
                ForecastReuse(order),
                schedule,
                log,
                lambda: None,
            )
            attach(network, hook, HOOK_NAME)
            attached.callback(detach, network, HOOK_NAME)
        yield log
