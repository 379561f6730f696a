"""Image files: linted by hadolint, versions as locked. `docker build` itself is not run here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.infra.manifests import INFRA, REPOSITORY, constraints

DOCKER = INFRA / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCRIPTS = sorted(INFRA.rglob("*.sh"))


def argument(name: str) -> str:
    (value,) = re.findall(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)
    return str(value)


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["ray", "torch"])
def test_versions_of_the_image_are_those_of_the_lock_file(package: str) -> None:
    assert argument(f"{package.upper()}_VERSION") == constraints()[package]


def test_the_python_of_the_image_is_one_that_the_project_takes() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    least = project["requires-python"].removeprefix(">=").split(".")
    tag = argument("PYTHON_TAG").removeprefix("py")
    assert (int(tag[0]), int(tag[1:])) >= tuple(int(part) for part in least)


def test_the_image_holds_no_credentials_and_runs_as_nobody_special() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users[-1] == "1000"
    assert not re.search(r"(ARG|ENV)\s+\S*(KEY|TOKEN|SECRET|PASSWORD)", DOCKERFILE)
    copied = re.findall(r"^COPY .*$", DOCKERFILE, re.MULTILINE)
    assert copied
    assert all("--chown=1000:100" in line for line in copied)
    assert "VOLUME /cache" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_context_of_the_build_is_a_list_of_what_is_needed() -> None:
    first, *others = [
        line
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert first == "**"
    taken = {line[1:] for line in others if line.startswith("!")}
    assert {"pyproject.toml", "constraints.txt", "sencache", "pipeline", "jobs"} <= taken
    for pattern in taken:
        assert list(REPOSITORY.glob(pattern)), pattern


def test_the_image_installs_what_the_project_says() -> None:
    done = subprocess.run(
        [sys.executable, DOCKER / "requirements.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert done.stdout.splitlines() == project["dependencies"]


def test_the_check_of_an_image_fails_on_another_version() -> None:
    wanted = constraints()["ray"] + "0"
    check = [sys.executable, str(DOCKER / "check.py"), f"ray={wanted}"]
    done = subprocess.run(check, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"the image should have {wanted}" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_and_can_be_run(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111
