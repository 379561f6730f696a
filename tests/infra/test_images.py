"""Image files: linted by hadolint, versions as locked. `docker build` itself is not run here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from infra.ci import image_steps
from pipeline.process import ALLOCATOR, ALLOCATOR_ENV
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


def test_the_image_and_its_processes_have_the_same_allocator() -> None:
    (said,) = re.findall(rf"{ALLOCATOR_ENV}=(\S+)", DOCKERFILE)
    assert said == ALLOCATOR == "expandable_segments:True"


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
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["pipeline"], *extras["xfuser"]]
    assert done.stdout.splitlines() == wanted


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


def test_the_install_steps_that_run_without_docker_are_those_of_the_dockerfile(
    tmp_path: Path,
) -> None:
    words = [word for word, _ in image_steps.steps(DOCKERFILE)]
    assert words == ["COPY", "COPY", "RUN", "COPY", "RUN"]
    runs = [rest for word, rest in image_steps.steps(DOCKERFILE) if word == "RUN"]
    assert "--constraint constraints.txt" in runs[0]
    assert "infra/docker/check.py" in runs[1]
    arguments = image_steps.arguments(DOCKERFILE)
    assert arguments["RAY_VERSION"] == constraints()["ray"]
    assert arguments["TORCH_INDEX"] == ""
    context = image_steps.admitted((DOCKER / "Dockerfile.dockerignore").read_text())
    for word, rest in image_steps.steps(DOCKERFILE):
        if word == "COPY":
            image_steps.copy(rest, context, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("LICENSE", "README.md", "constraints.txt", "pyproject.toml"),
        *("infra", "jobs", "pipeline", "sencache"),
    }
    assert (tmp_path / "jobs/configs/demo.yaml").is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    drain = tmp_path / "infra/docker/drain.sh"  # the head's preStop, by its mode too
    assert drain.stat().st_mode & 0o111
