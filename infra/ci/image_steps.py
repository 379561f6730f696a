"""Run the install steps of the image where there is no Docker: `python infra/ci/image_steps.py`.

A folder gets what the Dockerfile copies of what Dockerfile.dockerignore admits, an empty virtual
environment of this Python stands in for the one of the base image, and the RUN lines before
`USER 0` are run as they stand there. What it cannot show is the base image itself. Downloads what
an image build downloads: several GB, minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"

Step = tuple[str, str]


def steps(text: str) -> Iterator[Step]:
    """COPY and RUN of a Dockerfile in order, continuation lines joined, until it turns root."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if (word, rest) == ("USER", "0"):
            return
        if word in ("COPY", "RUN"):
            yield word, rest


def arguments(text: str) -> dict[str, str]:
    """Build arguments with their defaults."""
    return dict(re.findall(r'^ARG (\w+)="?([^"\n]*)"?$', text, re.MULTILINE))


def admitted(ignore: str) -> set[Path]:
    """Files of the repository that the build's context holds, relative to its root."""
    patterns = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    below = [path for folder in found if folder.is_dir() for path in folder.rglob("*")]
    files = {path.relative_to(ROOT) for path in [*found, *below] if path.is_file()}
    return {path for path in files if "__pycache__" not in path.parts}


def copy(words: str, context: set[Path], to: Path) -> None:
    """COPY: files into a folder, or the whole context."""
    *sources, target = [word for word in words.split() if not word.startswith("--")]
    for path in sorted(context):
        whole = sources == ["."]
        if whole or str(path) in sources:
            at = to / target / (path if whole else path.name)
            at.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, at)
            shutil.copymode(ROOT / path, at)


def main() -> int:
    """Run the steps in a folder that goes away; the exit code of the first that fails."""
    text = (DOCKER / "Dockerfile").read_text()
    context = admitted((DOCKER / "Dockerfile.dockerignore").read_text())
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        path = f"{folder}/venv/bin{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, **arguments(text), "PATH": path}
        workdir = folder / "sencache-pipeline"
        workdir.mkdir()
        for word, rest in steps(text):
            print(word, rest, flush=True)  # noqa: T201
            if word == "COPY":
                copy(rest, context, workdir)
                continue
            shell = ["/bin/bash", "-o", "pipefail", "-c", rest]
            done = subprocess.run(shell, cwd=workdir, env=env)  # noqa: S603
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
