"""Measure the profile of a model, for use in many output prefixes.

    python jobs/calibrate.py --model wan2.1-t2v-1.3b --prompts captions.csv --output wan.json

Makes a few clips without a cache (`--clips`, 8), on all groups of the cluster, and writes the file
that `--cache.profile` of jobs/generate.py takes. It takes the flags of jobs/generate.py, so a
profile is measured as it will be used: sampling, images, adapters, split models. The clips cost
what uncached clips cost and nothing more, and stay as a dataset in `OUTPUT.clips`. `--dry-run` says
how many evaluations they take.

With `--sensitivities` the job also measures what only the paper's rule needs, on one device, and
how errors of single steps grow: about ten times the cost. `--clips-from` measures on given videos,
as in the paper.

The same command resumes an interrupted measurement. Exit codes: 0 done; 2 bad arguments, input or
model; 3 the Ray cluster went away; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from pipeline.commands.parser import CommandParser
from pipeline.config.error_text import known_flags
from pipeline.config.run_config import RunConfig, load_config
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.requests.packing import MOST_FIRST
from pipeline.storage.storage import locate
from pipeline.wording import called_as, counted

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
FURTHER_CLIPS = 4
"""Default of --gain-clips and of --curve-clips."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one profile and return the job's exit code."""
    try:
        with interruptible():
            return _measured(argv)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the finished clips", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE


def _measured(argv: Sequence[str] | None) -> int:
    options, rest = _parser().parse_known_args(argv)
    if options.clips < 1:
        raise UserError(f"--clips is {options.clips}; it should be at least 1")
    _settle_further(options)
    config = _run_config(options, rest)
    if not (options.sensitivities or options.clips_from):
        return _calibrate(options, config)
    from pipeline.commands.sensitivities import measure_sensitivities

    measure_sensitivities(options, config)
    return 0


def _settle_further(options: argparse.Namespace) -> None:
    """Check and fill in the flags that only measured sensitivities use.

    Raises:
        UserError: One of them is negative, or given without `--sensitivities` and `--clips-from`.
    """
    for name in ("gain_clips", "curve_clips"):
        flag, count = f"--{name.replace('_', '-')}", getattr(options, name)
        if count is None:
            setattr(options, name, FURTHER_CLIPS)
        elif count < 0:
            raise UserError(f"{flag} is {count}; it should be 0 or more")
        elif not (options.sensitivities or options.clips_from):
            raise UserError(f"{flag} has no effect without --sensitivities or --clips-from")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        further=[*known_flags(RunConfig), "--config"],
        description="Measure the profile of a video model. The uncached clips that it is measured "
        "on stay as a dataset in OUTPUT.clips.",
        epilog=f"All flags of `{called_as('generate')}` can be given too, but those of its cache.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", required=True, help="where the profile goes; any URI")
    parser.add_argument("--clips", type=int, default=8, help="uncached clips to measure (1 to 16)")
    parser.add_argument(
        "--sensitivities",
        action="store_true",
        help="also measure sensitivities and the growth of errors, on one device",
    )
    further = parser.add_argument_group("with --sensitivities")
    further.add_argument(
        "--clips-from",
        nargs="+",
        default=[],
        metavar="URI",
        help="videos to measure on, files or folders; row i of --prompts is the caption of clip i",
    )
    further.add_argument(
        "--gain-clips",
        type=int,
        help="clips on which the growth of errors is measured (4); 13 runs of each; 0 leaves it "
        "out",
    )
    further.add_argument(
        "--curve-clips",
        type=int,
        help="further clips on which planned caching is tried at five budgets, to recommend one "
        "(4); 0 leaves it out",
    )
    return parser


def _run_config(options: argparse.Namespace, rest: Sequence[str]) -> RunConfig:
    """Return the configuration of the run that makes the clips."""
    for word in rest:
        if word.startswith("--cache."):
            raise UserError(f"{word} is not a flag of {called_as('calibrate')}; see --help")
    whole = options.sensitivities or options.clips_from
    cache = ["--cache.policy=none"]
    if not whole:
        if options.clips > MOST_FIRST:
            raise UserError(f"--clips is {options.clips}; {MOST_FIRST} are the most")
        cache = ["--cache.profile=own", f"--cache.measure-clips={options.clips}"]
    output = options.output if whole else f"{options.output}.clips"
    return load_config([*rest, f"--output={output}", *cache])


def _calibrate(options: argparse.Namespace, config: RunConfig) -> int:
    # Torch and Ray are not loaded before the command line is checked.
    from rich.console import Console

    from pipeline.calibration.own_run import calibrate_on_cluster

    storage, name = locate(options.output)
    if not config.dry_run:
        storage.check_writable()  # now and not after the sampling
    ended = calibrate_on_cluster(config, Console())
    if ended.interrupted:
        return EXIT_INTERRUPTED
    if ended.own is None:  # a dry run
        return 0
    profile = ended.own.profile
    # A profile of other prefixes, not of the run that uses it.
    profile = replace(profile, metadata=replace(profile.metadata, inputs="sampled"))
    storage.put_bytes(name, profile.to_json().encode())
    facts = profile.metadata
    print(
        f"profile {profile.hash} of {facts.model} on {counted(len(ended.own.requests), 'clip')} of "
        f"{counted(facts.num_inference_steps, 'step')}, "
        f"{counted(facts.network_evaluations, 'network evaluation')}, "
        f"written to {options.output}; use it with --cache.profile {options.output}"
    )
    for reason in ended.own.failed:
        print(f"  not measured: {reason}")
    return 0
