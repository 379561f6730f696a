import json
import threading
from types import SimpleNamespace

import pytest
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from pipeline.cluster.ray_compat import await_ray_data_threads, has_active_tasks, submission_id


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
