"""A calibration as a run: makes uncached clips on the whole cluster, and keeps their profile.

It takes what any run takes: prompts of every format, images, adapters, split models, several
groups, resume. The clips cost no network evaluation beyond their own, and stay as a small dataset
beside the profile.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from pipeline.calibration.measurement import OwnProfile
from pipeline.config.run_config import RunConfig
from pipeline.engine.protocol import EngineFactory
from pipeline.errors import UserError
from pipeline.models.resolve import model_of
from pipeline.requests.defaults import request_defaults
from pipeline.run import run
from pipeline.storage.storage import Storage


@dataclass(frozen=True)
class CalibrationRun:
    """How a calibration ended.

    Attributes:
        own: The profile and the clips that it rests on; None after a signal or a dry run.
        interrupted: Stopped by a signal; the same command goes on.
    """

    own: OwnProfile | None
    interrupted: bool = False


def calibrate_on_cluster(
    config: RunConfig, console: Console, factory: EngineFactory | None = None
) -> CalibrationRun:
    """Measure a profile on uncached clips.

    Args:
        config: As of the runs that will use the profile. `output` is the prefix of the clips, and
            `cache.measure_clips` says how many there are.
        console: Shows progress.
        factory: Builds the engine inside each actor; the default loads the configured model.

    Raises:
        UserError: Bad settings or input, or no clip measured anything.
        StorageError: The prefix cannot be used.
    """
    result = run(config, factory=factory, console=console, first_only=True)
    if result.interrupted or config.dry_run:
        return CalibrationRun(None, result.interrupted)
    storage = Storage(config.output)
    own = _stored(config, storage)
    if not own.requests:
        reasons = "; ".join(own.failed)
        raise UserError(f"no clip of {config.output} measured anything: {reasons}")
    return CalibrationRun(own)


def _stored(config: RunConfig, storage: Storage) -> OwnProfile:
    """The profile of the prefix, put together now if no process has done so."""
    resolved = model_of(config)
    defaults = request_defaults(config, resolved, storage)
    if defaults.chosen.own is not None:
        return defaults.chosen.own
    raise UserError(
        f"{config.output} holds no profile: {defaults.chosen.source or 'no'} profile was chosen"
    )
