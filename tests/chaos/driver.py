"""A driver as its own process. Importing this module does all that is slow, once, in the fork
server that drivers are forked from; the rest of a driver's life is a real one."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Any

from rich.console import Console

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.run import run
from tests.chaos.engine import chaos_engine

_ANY = RunConfig(prompts="-", output="-", cache={"policy": "none"})
request_defaults(_ANY, resolve_model(_ANY.model, ""))


def drive(
    settings: dict[str, Any],
    env: dict[str, str],
    log: str,
    delay_s: float,
    broken: str,
    ranks: bool,
    output: str,
) -> None:
    """Be `jobs/generate.py` with the chaos engine; ends the process with its exit code."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(env)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    code = 70
    try:
        engine = chaos_engine(log, delay_s, broken, ranks=ranks)
        console = Console(file=sys.stdout, width=200)
        report = run(RunConfig(**settings), factory=engine, console=console)
        code = 130 if report.interrupted else int(report.failed_fraction > 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BaseException:  # noqa: BLE001 - printed, and the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
