"""What the tests of infra/ read: rendered overlays, command lines inside files, real flags."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jobs.generate import main as generate
from tests.system_tools import system_tool

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"
OVERLAYS = sorted(path.name for path in (INFRA / "kuberay/overlays").iterdir())

Manifest = dict[str, Any]


@functools.cache
def constraints() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@functools.cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [system_tool("kubectl"), "kustomize", str(INFRA / "kuberay/overlays" / overlay)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> Manifest:
    (found,) = [manifest for manifest in rendered(overlay) if manifest["kind"] == kind]
    return found


def commands(text: str, program: str) -> Iterator[str]:
    """Every call of a program in a text, continuation lines joined, up to a quote or line end."""
    joined = re.sub(r"\\\n(\s*#)?", " ", text)
    for match in re.finditer(rf"{re.escape(program)}\b[^\n`\"]*", joined):
        yield match[0]


def flags(command: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--[a-z][\w.-]*", command))


@functools.cache
def generate_flags() -> set[str]:
    """Flags that `jobs/generate.py --help` names."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        generate(["--help"])
    return set(re.findall(r"--[a-z][\w.-]*", text.getvalue())) | {"--help"}
