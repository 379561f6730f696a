"""The part of `calibrate` that measures sensitivities: three evaluations for each step."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.prompts.reader import read_source
from pipeline.storage.storage import locate


def measure_sensitivities(options: argparse.Namespace, config: RunConfig) -> None:
    """Measure a profile with its sensitivities, on one device, and write it.

    Args:
        options: Of jobs/calibrate.py.
        config: Of an uncached run with the same sampling settings.

    Raises:
        UserError: Bad settings, input or model.
        KeyboardInterrupt: A signal; finished clips are kept.
    """
    if config.parallel.degree > 1 or config.engine.adapters:
        raise UserError(
            "--sensitivities measures on one device and without adapters: leave --parallel.* and "
            "--engine.adapters out, or --sensitivities"
        )
    with interruptible():
        _measure(options, config)


def _measure(options: argparse.Namespace, config: RunConfig) -> None:
    # Torch and diffusers are not loaded before the command line is checked.
    from pipeline.calibration.budget_curve import curve_text, measure_curve
    from pipeline.calibration.given_clips import read_clips
    from pipeline.calibration.measure import StoredJournal, measure_profile, profile_table
    from pipeline.engine.device import pick_device
    from pipeline.models.hub_cache import check_available
    from pipeline.models.load import load_pipeline
    from pipeline.models.resolve import model_of
    from pipeline.requests.defaults import request_defaults

    storage, name = locate(config.output)
    prompts = _captions(config, options.clips + options.curve_clips)
    storage.check_writable()  # now and not after the sampling
    model = model_of(config)
    if any(each.required for each in model.spec.conditions):
        raise UserError(
            f"--model {model.spec.name} starts from files, and calibration samples from texts "
            "alone: measure it with sencache.calibrate"
        )
    check_available(model)
    template = request_defaults(config, model).template
    videos = None
    if options.clips_from:
        size = {key: getattr(template, key) for key in ("width", "height", "num_frames")}
        videos = read_clips(options.clips_from, options.clips, **size)
    clips = options.clips if videos is None else len(videos)
    pipe = load_pipeline(model, str(pick_device(config.device)), config.dtype)
    journal = StoredJournal(storage, f"{name}.partial")
    try:
        with _progress("calibrating", "steps") as progress:
            profile = measure_profile(
                model,
                pipe,
                template,
                prompts,
                clips,
                videos=videos,
                gain_clips=min(options.gain_clips, clips),
                journal=journal,
                progress=progress,
            )
    except ValueError as error:
        raise UserError(f"cannot calibrate {config.model}: {error}") from error
    storage.put_bytes(name, profile.to_json().encode())
    journal.delete()  # not before the profile is stored
    print(profile_table(profile))
    print(f"written to {options.output}")
    if options.curve_clips and profile.drift is not None:
        seeds = range(clips, clips + options.curve_clips)  # not those of the profile
        with _progress("trying budgets", "runs") as progress:
            points = measure_curve(
                model.spec, pipe, template, prompts, seeds, profile, progress=progress
            )
        print(curve_text(points))


def _captions(config: RunConfig, count: int) -> list[str]:
    captions = []
    for row in itertools.islice(read_source(config.prompts, config.prompt_column), count):
        caption = row.values.get("prompt")
        if row.problem or not isinstance(caption, str) or not caption.strip():
            raise UserError(f"{config.prompts}: {row.key} {row.problem or 'holds no caption'}")
        captions.append(caption.strip())
    return captions


@contextmanager
def _progress(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; elsewhere print a line at every tenth, for logs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: _say(doing, unit, done, total)
        return
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeLeft(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say(doing: str, unit: str, done: int, total: int) -> None:
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"{doing}: {done} of {total} {unit}", file=sys.stderr)
