"""What an execution of a Dataset says of its output prefix, as `pipeline.run` says it.

The actor that reads the prompts says it, because it knows what the prefix holds. Ray shows its
stderr where the program runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.dataset.committed import Committed, Ids
from pipeline.dataset.manifest import RunStatus, all_runs
from pipeline.earlier_columns import lacking_lines
from pipeline.earlier_defaults import clips_of_other_defaults
from pipeline.errors import StorageError
from pipeline.models.spec import ModelSpec
from pipeline.monitoring.prefix_lines import (
    say_other_runs,
    say_settings,
    say_storage,
    say_unsaved,
)
from pipeline.monitoring.summary import say_lines
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.reasons import InputCounts
from pipeline.requests.run_settings import own_settings
from pipeline.storage.storage import Storage

_WIDTH = 100_000
"""Columns of the console: Ray puts a prefix before each line, so a text must be one line."""


def say_prefix(
    storage: Storage,
    run_id: str,
    config: RunConfig,
    defaults: RequestDefaults,
    spec: ModelSpec,
    finished: Committed,
    known: Callable[[Ids], npt.NDArray[np.bool_]],
    counts: InputCounts,
) -> None:
    """Say which other runs, and clips of which other settings, the prefix holds.

    Args:
        storage: The output prefix.
        run_id: Of this run.
        config: Its settings.
        defaults: What its rows inherit.
        spec: Its model.
        finished: What the prefix held when the run began.
        known: Which samples the input holds, as far as it is read.
        counts: What became of the input so far.
    """
    console = Console(file=sys.stderr, width=_WIDTH)
    say_storage(console, storage)
    mine = own_settings(defaults)
    runs: list[RunStatus] = []
    lacking: list[str] = []
    others = None
    try:
        runs = all_runs(storage, {run_id})
        others = clips_of_other_defaults(storage, runs, config, spec, mine, known)
        lacking = list(lacking_lines(storage, runs, counts, known, is_exact=False))
    except StorageError as error:  # the notes fail, and not the run
        sys.stderr.write(f"what other runs made with other inputs is not known: {error}\n")
    say_other_runs(console, runs)
    say_settings(console, finished.settings, mine, others)
    say_unsaved(console, finished.unsaved, config.save, defaults.template.cache.policy)
    say_lines(console, lacking)
