"""What `ray job submit --working-dir .` carries, as Ray itself packs it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from jobs.benchmarks.fleet.sizing import estimates, markdown
from jobs.report import main as report
from pipeline.models.weights import SUFFIXES
from tests.infra.manifests import INFRA, REPOSITORY, commands, flags, generate_flags

LARGEST_BYTES = 20 << 20
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
TEXTS = ["README.md", "infra/README.md", "infra/aws/cluster.yaml"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "working_dir.zip"
    create_package(str(REPOSITORY), target, include_gitignore=True)
    return target


def test_the_working_directory_is_small_and_has_no_weights_but_the_embedded_models(
    packed: Path,
) -> None:
    assert packed.stat().st_size < LARGEST_BYTES
    with zipfile.ZipFile(packed) as package:
        names = [Path(name) for name in package.namelist()]
    embedded = Path("pipeline/models/demo")
    assert all(embedded in name.parents for name in names if name.suffix in WEIGHTS)
    assert {name.parts[0] for name in names} <= {
        *("jobs", "pipeline", "sencache", "pyproject.toml", "constraints.txt", "Makefile"),
        *(name.name for name in REPOSITORY.glob("*.md")),
        *("LICENSE", ".gitignore", ".rayignore"),
    }


def test_the_working_directory_holds_what_a_run_reads(packed: Path) -> None:
    with zipfile.ZipFile(packed) as package:
        names = set(package.namelist())
    folder = REPOSITORY / "pipeline/models/demo"
    wanted = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    wanted += [*(REPOSITORY / "jobs").rglob("*.py"), *(REPOSITORY / "jobs/configs").iterdir()]
    wanted += (REPOSITORY / "sencache").rglob("*.py")
    for path in wanted:
        assert str(path.relative_to(REPOSITORY)) in names


@pytest.mark.parametrize("text", TEXTS)
def test_commands_in_texts_have_flags_that_exist(text: str) -> None:
    found = list(commands((REPOSITORY / text).read_text(), "jobs/generate.py"))
    assert found
    for command in found:
        assert flags(command) <= generate_flags(), command


def test_the_runtime_environment_is_where_texts_say() -> None:
    for text in TEXTS:
        assert "--runtime-env infra/runtime-env.yaml" in (REPOSITORY / text).read_text()
    assert (INFRA / "runtime-env.yaml").is_file()


def test_the_table_of_costs_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (INFRA / "README.md").read_text()
    (command,) = commands(guide, "jobs/report.py --estimate")
    assert report(command.split()[1:]) == 0
    table, _ = capsys.readouterr().out.split("\n\n", 1)
    assert len(table.splitlines()) > 10
    assert f"\n\n{table}\n\n" in guide


@pytest.mark.parametrize("gpu", ["H100", "L40S"])
def test_the_sizing_guide_says_what_the_estimate_says(gpu: str) -> None:
    guide = (INFRA / "README.md").read_text().splitlines()
    for row in estimates(gpu):
        assert markdown(row) in guide
