import json
import threading
from types import SimpleNamespace

import pytest
from ray._private import worker
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.data import DataContext
from ray.data._internal import progress
from ray.util import debug

from pipeline.cluster.ray_compat import (
    await_ray_data_threads,
    has_active_tasks,
    own_kills_counted,
    submission_id,
    tell_nothing_of_missing_bars,
)


@pytest.mark.parametrize(
    ("given", "expected"), [("20260131T235959Z-wan", "20260131T235959Z-wan"), ("a/../b", "a-b")]
)
def test_a_job_has_its_submission_id(given: str, expected: str) -> None:
    job = {"runtime_env": {}, "metadata": {"job_submission_id": given}}
    assert submission_id({RAY_JOB_CONFIG_JSON_ENV_VAR: json.dumps(job)}) == expected


@pytest.mark.parametrize("described", ["", "{}", "[]", "null", '{"metadata": null}', "{torn"])
def test_a_description_that_names_no_job_is_none(described: str) -> None:
    assert submission_id({RAY_JOB_CONFIG_JSON_ENV_VAR: described}) == ""


def test_outside_of_a_job_there_is_no_submission_id() -> None:
    assert submission_id({}) == ""


def test_tasks_are_those_of_the_operator_that_maps_the_class() -> None:
    operators = [
        SimpleNamespace(name="MapBatches(TextActor)", num_active_tasks=lambda: 1),
        SimpleNamespace(name="MapBatches(GroupActor)", num_active_tasks=lambda: 0),
    ]
    executor = SimpleNamespace(_topology=operators)
    assert has_active_tasks(executor, "TextActor")
    assert not has_active_tasks(executor, "GroupActor")


KILLED = (
    "Task MapWorker(MapBatches(GroupActor)).submit failed. There are infinite retries remaining, "
    "so the task will be retried. Error: The actor is dead because it was killed by `ray.kill`."
)


def test_only_the_tasks_of_actors_that_a_stopped_run_ended_are_not_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed: list[str] = []
    monkeypatch.setattr(
        worker, "print_to_stdstream", lambda data, ignore_prefix: printed.extend(data["lines"])
    )
    others = [
        KILLED.replace("it was killed by `ray.kill`", "its worker process has died"),
        f"{KILLED} The node was lost.",
        KILLED.replace("MapWorker(MapBatches(GroupActor)).submit", "ours"),
    ]
    stopped = [False]

    def say(pid: object, *lines: str) -> None:
        data = {"lines": list(lines), "pid": pid, "is_err": False}
        worker.print_to_stdstream(data, ignore_prefix=False)

    with own_kills_counted(lambda: stopped[0]) as left_out:
        say("raylet", KILLED)
        stopped[0] = True
        say(4711, KILLED)  # an actor has written it
        assert (printed, left_out) == ([KILLED] * 2, [])
        say("raylet", f"{KILLED}\n", *others)
        say("raylet", KILLED)
    assert printed[2:] == others
    assert len(left_out) == 2
    say("raylet", KILLED)
    assert printed[-1] == KILLED
    # Ray's thread looks the function up by its name each time.
    assert "print_to_stdstream" in worker.listen_error_messages.__code__.co_names


def test_threads_of_ray_data_are_awaited_and_no_others() -> None:
    go = threading.Event()
    names = ("StreamingExecutor-1", "of somebody else")
    ours, other = (threading.Thread(target=go.wait, name=name, daemon=True) for name in names)
    before = set(threading.enumerate())
    ours.start()
    other.start()
    await_ray_data_threads(before, 0.01)
    assert ours.is_alive()  # the wait has an end
    threading.Timer(0.05, go.set).start()
    await_ray_data_threads(before, 60)
    assert not ours.is_alive()


def test_ray_data_does_not_say_that_bars_are_off_where_the_pipeline_turned_them_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, said = DataContext(), list[str]()
    context.enable_progress_bars = False
    monkeypatch.setattr(progress.logger, "warning", said.append)
    monkeypatch.setattr(debug, "_logged", set())
    progress.get_progress_manager(context, "one", {}, False)
    assert len(said) == 1
    monkeypatch.setattr(debug, "_logged", set())
    tell_nothing_of_missing_bars()
    progress.get_progress_manager(context, "two", {}, False)
    assert len(said) == 1
