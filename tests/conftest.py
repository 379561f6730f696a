"""Settings of every test."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests import property_examples  # noqa: F401 - registers the profiles
from tests.local_ray import end_cluster, local_ray  # noqa: F401 - pytest finds fixtures by name
from tests.system_tools import missing_tools

if TYPE_CHECKING:
    from tests.pipeline.storage.faulty_s3 import FaultyS3

settings.load_profile("few")  # until `--hypothesis-profile` says otherwise

# Tests talk to nothing but loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# As in an activated environment, so that messages name the command `python` wherever it lies.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


# What imports leave is never garbage: looking for it takes a third of the time of the collection.
gc.disable()

VARIANTS = pytest.StashKey[int]()


def pytest_report_header() -> list[str]:
    return missing_tools()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what `make test` leaves to `make test-all`."""
    variants = [item for item in items if item.get_closest_marker("variant")]
    if variants:
        stash = variants[0].config.stash
        stash[VARIANTS] = stash.get(VARIANTS, 0) + len(variants)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that runs all others what this one has left out."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["variants"] = session.config.stash.get(VARIANTS, 0)


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """Let each test hear what a process says once."""
    if (module := sys.modules.get("pipeline.said_once")) is not None:
        module.forget()


class OtherProcesses:
    """Hears of the processes of pytest-xdist, each of which collects every test."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        node.config.stash[VARIANTS] = output.get("variants", 0)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(OtherProcesses())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what kept tests from running once more, where it is seen."""
    left_out = terminalreporter.config.stash.get(VARIANTS, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out} variants left out; `make test-all` runs them too")
    if lines := missing_tools():
        terminalreporter.section("missing programs: tests that need them are skipped", yellow=True)
        terminalreporter.write("".join(f"{line}\n" for line in lines))


@pytest.hookimpl(trylast=True)  # when those that are not asked for are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or one process would be left alone with one of them.

    These are the end-to-end tests with clusters of their own and the golden record, then all that
    share a cluster, then the files of most slow tests, then those of most tests. pytest-xdist would
    end with the first, which are few, but for `--no-loadscope-reorder`.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    number = Counter(item.path for item in items)
    sharing = files_that_share_a_cluster(items)

    def rank(item: pytest.Item) -> tuple[int, int, int]:
        whole = bool({"e2e", "chaos", "golden"} & set(item.path.parts) and slow[item.path])
        stage = 1 if item.path in sharing else 0 if whole else 2
        return stage, -slow[item.path], -number[item.path]

    items.sort(key=rank)


def files_that_share_a_cluster(items: Sequence[pytest.Item]) -> set[Path]:
    return {item.path for item in items if "local_ray" in getattr(item, "fixturenames", ())}


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session share; lock what you write there."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _sharing(request: pytest.FixtureRequest) -> Iterator[set[Path]]:
    yield files_that_share_a_cluster(request.session.items)
    end_cluster()


@pytest.fixture(scope="module", autouse=True)
def _no_idle_cluster(request: pytest.FixtureRequest, _sharing: set[Path]) -> None:
    if request.path not in _sharing:
        end_cluster()


@pytest.fixture(scope="module", autouse=True)
def _frozen_imports() -> None:
    """Take what the imports of tests left out of garbage collection too, if a test let it in."""
    if not gc.get_freeze_count():
        gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Compute on one thread: the tensors of tests are tiny, and another process runs beside."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """s3fs shares connections by options, not by the credentials that they were made with."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FaultyS3]:
    from tests.pipeline.storage.faulty_s3 import serving  # here: not every test session needs moto

    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """An S3 server with one empty bucket, `clips`, that can be told to fail."""
    from tests.pipeline.storage.faulty_s3 import emptied

    with emptied(s3_server, monkeypatch) as server:
        yield server
