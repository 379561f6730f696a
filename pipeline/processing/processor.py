"""`generate` and `build_processor`: prompts to clips as steps of a Ray Data program.

The Dataset that they return is lazy: nothing is read or made before its rows are asked for, and
rows stream through. Its rows are those of `pipeline.dataset.schema`, one for each sample, with
failed and rejected ones among them. Clips and rows are stored in the output prefix as
`jobs/generate.py` stores them, under the same ids. docs/python.md says where the two differ.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from pydantic import ValidationError

from pipeline.cluster import ray_data_plan
from pipeline.cluster.connection import GROW_FROM, NO_PROGRESS_S, await_gpus
from pipeline.cluster.ledger_actor import RemoteLedger
from pipeline.cluster.ray_compat import (
    submission_id,
    tell_nothing_of_missing_bars,
    with_own_context,
)
from pipeline.config.error_text import validation_problem
from pipeline.config.run_config import RunConfig
from pipeline.dataset.manifest import new_run_id
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.models.hub_cache import check_available
from pipeline.models.resolve import model_of
from pipeline.models.spec import ResolvedModel
from pipeline.prefix.foreign_files import refuse_foreign
from pipeline.processing.intake_actor import PLACE, ROWS_AT_ONCE, URI_COLUMN, IntakeActor
from pipeline.processing.rows_actor import RowsActor, store_rows
from pipeline.processing.run_record import RunRecord
from pipeline.prompts.column_names import check_named
from pipeline.prompts.prompt_file import WantedColumns, find_prompt_column
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.scoring.conditions import RowRank
from pipeline.scoring.panel import ScoringPlan
from pipeline.scoring.stored_scores import KeepChoice
from pipeline.storage.places import check_kept
from pipeline.storage.storage import Storage
from pipeline.wording import called_as

Settings = RunConfig | Mapping[str, Any]
"""The settings of a run: all that jobs/generate.py has, or a mapping of those that are not default,
as in its YAML file. `prompts` may be left out."""

MANY_TASKS = 100_000
"""A Dataset does not say how many rows it will have: groups are planned for so many tasks."""

BLOCK_BYTES = 1 << 20
"""Size of the blocks that a source of prompts is read in, so that clips begin before its end."""


def generate(
    prompts: ray.data.Dataset | str, config: Settings, *, factory: EngineFactory | None = None
) -> ray.data.Dataset:
    """Make the clips of prompts.

    Args:
        prompts: A Dataset with a column of prompts, and any of the columns that a prompt file may
            have (docs/prompts.md); or a path or URI, as `--prompts` takes.
        config: The settings; `output` is needed.
        factory: Builds the engine inside each actor; the default loads the configured model.

    Returns:
        A lazy Dataset of output rows in `pipeline.dataset.schema.SCHEMA`.

    Raises:
        UserError: Bad settings, a source that cannot be read, or a cluster without room for one
            group.
    """
    source = prompts if isinstance(prompts, str) else ""
    processor = _processor(_settings(config, source or PLACE), factory)
    if not source:
        return processor(prompts)
    rows = ray.data.from_items([{URI_COLUMN: source}])
    rows.context.target_max_block_size = BLOCK_BYTES
    return processor.of_source(rows, source)


def build_processor(
    config: Settings, *, factory: EngineFactory | None = None
) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    """Build what turns a Dataset of prompts into a Dataset of clips, as `ray.data.llm` does.

    Args:
        config: The settings; `output` is needed, `prompts` is not read.
        factory: Builds the engine inside each actor; the default loads the configured model.

    Returns:
        A function from a Dataset with a column of prompts to a lazy Dataset of output rows.

    Raises:
        UserError: Bad settings.
    """
    return _processor(_settings(config, PLACE), factory)


@dataclass(frozen=True)
class ClipProcessor:
    """Turns a Dataset of prompts into a Dataset of clips.

    Attributes:
        config: The settings.
        resolved: The model.
        factory: Builds the engine inside each actor; None loads the model.
        storage: The output prefix.
        scores: Names of the scores that clips get.
    """

    config: RunConfig
    resolved: ResolvedModel
    factory: EngineFactory | None
    storage: Storage
    scores: tuple[str, ...]

    def __call__(self, prompts: ray.data.Dataset) -> ray.data.Dataset:
        """Return the lazy Dataset of output rows.

        Raises:
            UserError: These are known to be no prompts, or the cluster has no room for one group.
            StorageError: The output prefix cannot be read.
        """
        if not isinstance(prompts, ray.data.Dataset):
            raise UserError(f"prompts are a Dataset of Ray Data, not a {type(prompts).__name__}")
        if names := prompts.columns(fetch_if_missing=False):  # else the intake looks
            column = find_prompt_column(PLACE, WantedColumns(self.config.prompt_column), names)
            check_named(sorted({*self.config.columns} - {column, *names}), names)
        limit = self.config.limit
        return self.of_source(prompts if limit is None else prompts.limit(limit))

    def of_source(self, prompts: ray.data.Dataset, source: str = "") -> ray.data.Dataset:
        """The same without a limit, which the intake keeps where it reads a source itself.

        Args:
            prompts: The prompts, or the place of their source.
            source: That place; its first row is read at once, so that a bad one is refused here.
        """
        config, storage = self.config, self.storage
        defaults = request_defaults(config, self.resolved, storage, measure=False)
        if source:
            read_source(source, config.prompt_column, config.columns, defaults.conditions)
        run_id = new_run_id(storage, submission_id())
        if config.device == "cuda":
            await_gpus(config.parallel.degree, config.wait_for_gpus_s)
        groups = ray_data_plan.groups_for(
            MANY_TASKS * ray_data_plan.rows_per_task(config, self.resolved),
            config,
            self.resolved,
            grows=True,
        )
        ledger = RemoteLedger.start(
            storage,
            run_id,
            max_attempts=config.max_attempts,
            forget=config.retry_failed,
            stops=config.max_failed_fraction < 1,
        )
        requests = prompts.repartition(target_num_rows_per_block=ROWS_AT_ONCE).map_batches(
            IntakeActor,
            fn_constructor_args=(config, defaults, storage, run_id, self.resolved.spec),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0,
        )
        rows = ray_data_plan.requests_to_rows(
            requests,
            config,
            self.resolved,
            groups,
            factory=self.factory,
            storage=storage,
            ledger=ledger,
            run_id=run_id,
            chosen=defaults.chosen,
            actor=RowsActor,
        )
        own = KeepChoice(config.keep, self.scores)
        kept = with_own_context(
            rows.map_batches(
                store_rows,
                fn_args=(storage, run_id, ledger, own),
                batch_size=config.part_rows,
                batch_format="pyarrow",
            )
        )
        settings, scorers = config.to_dict(), tuple(config.scorers)
        record = functools.partial(RunRecord, storage, run_id, settings, own, scorers)
        context = kept.context  # Ray Data hands it on to the Datasets that come from this one
        # More actors than a small input has tasks: no mistake of the program that calls this.
        warnings.filterwarnings("ignore", rf"The minimum number of .*\({RowsActor.__name__}\)")
        if not sys.stdout.isatty():  # Ray Data would print a table every ten seconds
            context.enable_progress_bars = False
            tell_nothing_of_missing_bars()
        context.custom_execution_callback_classes = [
            *context.custom_execution_callback_classes,
            record,
        ]
        context.execution_no_progress_timeout_s = NO_PROGRESS_S
        context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_FROM
        return kept


def _processor(config: RunConfig, factory: EngineFactory | None) -> ClipProcessor:
    for name, is_set, instead in (
        ("dry_run", config.dry_run, f"run {called_as('generate')} --dry-run on the prompts"),
        ("verify", config.verify, f"run {called_as('generate')} --verify on the prefix"),
        ("stages.text", config.stages.text == "separate", "leave it out"),
    ):
        if is_set:
            raise UserError(f"{name} is not for a Dataset: {instead}")
    storage = Storage(config.output)
    check_kept(storage.uri)
    resolved = model_of(config)
    request_defaults(config, resolved, storage, measure=False)  # checks the settings
    scores = tuple(ScoringPlan(tuple(config.scorers), config.keep).panel().names)
    if config.best_of > 1:
        RowRank(config.select_by, scores)
    if factory is None:
        check_available(resolved)
    storage = storage.check_writable()
    refuse_foreign(storage)
    return ClipProcessor(config, resolved, factory, storage, scores)


def _settings(config: Settings, prompts: str) -> RunConfig:
    """The settings with a source of prompts."""
    if isinstance(config, RunConfig):
        return config.model_copy(update={"prompts": prompts})
    if not isinstance(config, Mapping):
        raise UserError(f"settings are a mapping or a RunConfig, not a {type(config).__name__}")
    try:
        return RunConfig.model_validate({**config, "prompts": prompts})
    except ValidationError as error:
        raise UserError(validation_problem(error, RunConfig, config, "")) from None
