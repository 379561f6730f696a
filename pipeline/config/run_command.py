"""The command line of a run, worked out again from the settings that its manifest holds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config.run_config import RunConfig, load_config
from pipeline.errors import UserError
from pipeline.wording import called_as

ONCE = ("verify", "retry_failed", "dry_run")
"""What one execution was asked for beside its settings; the next one is asked anew."""


def run_command(stored: Mapping[str, Any], output: str) -> str:
    """The command that does the same run again.

    It names every setting that is not the default one, also those that a YAML file gave. Its
    relative paths are those of the folder in which the run was started.

    Args:
        stored: The settings, as `RunConfig.to_dict` gave them.
        output: The prefix; it may have been moved since.

    Returns:
        The command; "" where flags do not give exactly these settings, as for a run of a Python
        program or of another version.
    """
    wanted = {**stored, "output": output, **dict.fromkeys(ONCE, False)}
    try:
        config = RunConfig.model_validate(wanted)
        base = RunConfig(prompts=config.prompts, output=output)
        flags = ["--prompts", config.prompts, "--output", output]
        flags += _flags(config.to_dict(), base.to_dict())
        if load_config(flags) != config:
            return ""
    except (UserError, ValidationError):
        return ""
    return shlex.join([*shlex.split(called_as("generate")), *flags])


def _flags(settings: Mapping[str, Any], base: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Flags for what differs from the defaults; a setting without a value needs none."""
    for name, value in settings.items():
        flag = f"{of}{name}".replace("_", "-")
        if isinstance(value, Mapping):
            yield from _flags(value, base[name], f"{of}{name}.")
        elif value in (base[name], None) or (flag, value) == ("model", ""):
            continue  # a path alone names the model
        elif isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield f"--{flag}"
            yield ",".join(map(str, value)) if isinstance(value, list) else str(value)
