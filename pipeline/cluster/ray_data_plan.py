"""The Ray Data plan of a run: packed requests in, tables of output rows out.

Small blocks go to actors that own one group each, by way of text encoders if these are separate.
Ray Data does all waiting, restarting, balancing and growing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from pipeline.calibration.measurement import ChosenProfile, FirstClips
from pipeline.candidates.drafts import DraftSettings
from pipeline.cluster import ray_compat
from pipeline.cluster.capacity import Groups, plan_groups
from pipeline.cluster.connection import own_cores, private_node
from pipeline.cluster.group_actor import CALLS_AT_ONCE, ENGINE_CALLS, GroupActor
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.cluster.text_stage import TextActor, TextWatch
from pipeline.config.run_config import RunConfig
from pipeline.engine.factory import engine_factory, text_factory
from pipeline.engine.protocol import EngineFactory
from pipeline.models.engine_options import settle_options
from pipeline.models.memory.preflight import LargestCall
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.layout import choose_layout
from pipeline.requests.packing import REQUEST_COLUMN
from pipeline.scoring.panel import ScoringPlan
from pipeline.storage.storage import Storage
from pipeline.streaming.request_feed import RequestFeed

MANY_UNITS = 1_000_000
"""A number of units that no limit of groups follows from."""

UNITS_AHEAD, UNITS_KEPT = 20_000, 50_000
"""Units of requests that wait in front of the groups while the input is still read, and behind them
until Ray may forget them; a unit takes about a kilobyte."""


def groups_for(
    units: int,
    config: RunConfig,
    resolved: ResolvedModel,
    *,
    grows: bool,
    avoid: Collection[str] = (),
    own: Mapping[str, float] | None = None,
) -> Groups:
    """Decide how a run fills the cluster.

    Args:
        units: Packed units of requests.
        config: The run's settings.
        resolved: The model.
        grows: Whether nodes can join during the run; they cannot join a private cluster.
        avoid: Ids of nodes that must get no group.
        own: What this machine has, where Ray has not started yet; None asks the connected cluster.

    Raises:
        UserError: The cluster cannot hold one group.
    """
    stages, separate = config.stages, config.stages.text == "separate"
    return plan_groups(
        config.device,
        config.parallel.degree,
        config.replicas,
        tasks=-(-units // rows_per_task(config, resolved)),
        grows=grows,
        other_cpus=stages.text_cpus * stages.text_replicas if separate else 0,
        other_gpus=stages.text_gpus * stages.text_replicas if separate else 0.0,
        avoid=avoid,
        cpus_per_rank=config.parallel.cpus_per_rank,
        cores=0 if grows else own_cores(),
        own=own,
    )


def check_own_machine(config: RunConfig, resolved: ResolvedModel) -> None:
    """Refuse, before Ray starts, what this machine cannot run where it is the whole cluster.

    A cluster that is joined is not asked: only it knows which nodes it has, or will have.

    Raises:
        UserError: It cannot hold one group, or a setting does not fit its kind of device.
    """
    if (own := private_node()) is None:
        return
    groups = groups_for(MANY_UNITS, config, resolved, grows=False, own=own)
    layout = choose_layout(config.parallel, resolved.spec, groups.device)
    controls = config.control_fraction > 0.0
    settle_options(
        config.engine, config.stages, resolved.spec, layout, groups.device, controls=controls
    )


def requests_to_rows(
    packed: Sequence[ray.ObjectRef[pa.Table]] | ray.data.Dataset,
    config: RunConfig,
    resolved: ResolvedModel,
    groups: Groups,
    *,
    factory: EngineFactory | None,
    storage: Storage,
    ledger: RemoteLedger,
    run_id: str,
    avoid: Collection[str] = (),
    chosen: ChosenProfile | None = None,
    first: FirstClips | None = None,
    largest: LargestCall | None = None,
    feed: RequestFeed | None = None,
    actor: type[GroupActor] = GroupActor,
) -> ray.data.Dataset:
    """Build the dataset that makes the requests; it starts when its rows are read.

    Args:
        packed: Packed requests in a column `REQUEST_COLUMN`: blocks in Ray's object store, or a
            dataset. Ray cuts them into tasks of one or more engine calls each.
        config: The run's settings.
        resolved: The model.
        groups: From `groups_for`.
        factory: Builds the engine inside each actor; None loads the configured model.
        storage: The output prefix.
        ledger: Records the attempts.
        run_id: Goes into every row.
        avoid: Ids of nodes that must get no group.
        chosen: The run's profile.
        first: The clips that measure it, where the run has yet to do that.
        largest: The largest call of the run.
        feed: Hands out further packed requests while these are made.
        actor: Makes the rows of a task.

    Raises:
        UserError: The model cannot run with these settings.
    """
    stages, separate = config.stages, config.stages.text == "separate"
    batch_rows = _batch_rows(config, resolved)
    task_rows = rows_per_task(config, resolved)
    given: Any = packed
    dataset = given if isinstance(given, ray.data.Dataset) else ray.data.from_arrow_refs([*given])
    dataset = dataset.repartition(target_num_rows_per_block=task_rows)
    callbacks: list[Any] = []
    if feed is not None:
        callbacks.append(functools.partial(ray_compat.FedExecution, feed, UNITS_AHEAD, UNITS_KEPT))
    if separate:
        callbacks.append(
            functools.partial(TextWatch, stages.text_needs, stages.text_wait_s, GroupActor.__name__)
        )
    if callbacks:
        dataset.context.custom_execution_callback_classes = callbacks
    if separate:
        dataset = dataset.map_batches(
            TextActor,
            fn_constructor_args=(
                text_factory(config, resolved, groups.device),
                REQUEST_COLUMN,
                batch_rows,
                ledger,
            ),
            batch_size=task_rows,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=stages.text_replicas),
            num_cpus=stages.text_cpus,
            num_gpus=stages.text_gpus or None,
        )
    make = factory or engine_factory(
        config,
        dataclasses.replace(resolved, parts="clips") if separate else resolved,
        device=groups.device,
        threads=groups.num_cpus if groups.device == "cpu" else 0,
        chosen=chosen,
        largest=largest,
    )
    return dataset.map_batches(
        actor,
        fn_constructor_kwargs={
            "factory": make,
            "storage": storage,
            "ledger": ledger,
            "run_id": run_id,
            "batch_rows": batch_rows,
            "deadline_s": config.call_deadline_s,
            "first": first,
            "scoring": ScoringPlan(tuple(config.scorers), config.keep),
            "drafts": DraftSettings(
                config.best_of,
                config.draft_budget,
                config.select_by,
                config.keep_drafts,
                config.draft_frames,
            ),
            "calls": ENGINE_CALLS[stages.decode],
        },
        batch_size=task_rows,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            min_size=groups.replicas,
            max_size=groups.most,
            max_concurrent_calls_per_actor=CALLS_AT_ONCE[stages.decode],
            max_tasks_in_flight_per_actor=CALLS_AT_ONCE[stages.decode],
            enable_true_multi_threading=True,
        ),
        num_gpus=groups.num_gpus or None,
        num_cpus=groups.num_cpus,
        label_selector={"ray.io/node-id": f"!in({','.join(avoid)})"} if avoid else None,
    )


def rows_per_task(config: RunConfig, resolved: ResolvedModel) -> int:
    """Units of requests in one task of a group."""
    return _batch_rows(config, resolved) * config.batches_per_task


def _batch_rows(config: RunConfig, resolved: ResolvedModel) -> int:
    return resolved.spec.batch_rows if config.batch_rows == "auto" else config.batch_rows
