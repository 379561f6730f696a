"""Measure a model's sensitivity profile.

    python jobs/calibrate.py --model demo --prompts captions.txt --output profile.json

Samples a few clips without a cache and writes the file that `--cache.profile` of jobs/generate.py
takes. Sampling settings have the same flags as there, so a profile is measured as it will be used.
With `--clips-from` the network sees given videos instead of the model's own clips, as in the paper.

At the end the job makes a few further clips at several budgets, prints how close they come to the
same clips without a cache, and recommends a budget.

Finished clips are kept in `OUTPUT.partial` until the profile is written, so that the same command
resumes an interrupted measurement. Exit codes: 0 done; 2 bad arguments, input or model; 130
interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.config.run_config import RunConfig, load_config
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.prompts.reader import read_source
from pipeline.redaction import guard_output
from pipeline.storage.storage import locate

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one profile and return the job's exit code."""
    try:
        options, rest = _parser().parse_known_args(argv)
        with interruptible():
            _calibrate(options, _run_config(options, rest))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the finished clips", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure the sensitivity profile of a video model.",
        epilog="All --sampling.* flags of jobs/generate.py can be given too.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--prompts", required=True, help="captions: text, CSV, TSV, JSONL or Parquet"
    )
    parser.add_argument("--prompt-column", default="prompt", help="column of the caption")
    parser.add_argument("--output", required=True, help="where the profile goes; any URI")
    parser.add_argument("--model", default="demo", help="name in the model registry")
    parser.add_argument("--model-path", default="", help="local folder or s3:// mirror of weights")
    parser.add_argument("--clips", type=int, default=8, help="clips to measure (8 are enough)")
    parser.add_argument(
        "--clips-from",
        nargs="+",
        default=[],
        metavar="URI",
        help="videos to measure on, files or folders; row i of --prompts is the caption of clip i",
    )
    parser.add_argument(
        "--gain-clips",
        type=int,
        default=4,
        help="clips on which the growth of errors is measured, for planned caching; 13 runs of "
        "each; 0 leaves it out",
    )
    parser.add_argument(
        "--curve-clips",
        type=int,
        default=4,
        help="further clips on which planned caching is tried at five budgets, to recommend one; "
        "0 leaves it out",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="", help="weights' type; empty: the model's own")
    return parser


def _run_config(options: argparse.Namespace, rest: Sequence[str]) -> RunConfig:
    """Return the configuration of an uncached run with these settings."""
    for word in rest:
        if word.startswith("--") and not word.startswith("--sampling."):
            raise UserError(f"{word} is not a flag of jobs/calibrate.py; see --help")
    names = ("prompts", "prompt_column", "output", "model", "model_path", "device", "dtype")
    flags = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    return load_config([*flags, "--cache.policy=none", *rest])


def _calibrate(options: argparse.Namespace, config: RunConfig) -> None:
    # Torch and diffusers are not loaded before the command line is checked.
    from pipeline.calibration.budget_curve import curve_text, measure_curve
    from pipeline.calibration.given_clips import read_clips
    from pipeline.calibration.measure import StoredJournal, measure_profile, profile_table
    from pipeline.engine.device import pick_device
    from pipeline.models.hub_cache import check_available
    from pipeline.models.load import load_pipeline
    from pipeline.models.resolve import resolve_model
    from pipeline.requests.defaults import request_defaults

    storage, name = locate(config.output)
    if options.clips < 1:
        raise UserError(f"--clips is {options.clips}; it should be at least 1")
    for flag, count in (
        ("--gain-clips", options.gain_clips),
        ("--curve-clips", options.curve_clips),
    ):
        if count < 0:
            raise UserError(f"{flag} is {count}; it should be 0 or more")
    prompts = _captions(config, options.clips + options.curve_clips)
    storage.check_writable()  # now and not after the sampling
    model = resolve_model(config.model, config.model_path)
    if model.spec.takes_image:
        raise UserError(
            f"--model {model.spec.name} starts from an image, and calibration samples from texts "
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


if __name__ == "__main__":
    guard_output()
    sys.exit(main())
