from typing import Any

import pytest
import ray

from pipeline.cluster import Groups, plan_groups
from pipeline.errors import UserError


def have(monkeypatch: pytest.MonkeyPatch, **resources: float) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)


@pytest.mark.parametrize(
    ("resources", "arguments", "expected"),
    [
        ({"CPU": 4.0}, ("auto", 1, "auto"), Groups("cpu", 1, 0, 2)),
        ({"CPU": 9.0}, ("auto", 1, "auto"), Groups("cpu", 4, 0, 2)),
        ({"CPU": 9.0}, ("cpu", 2, "auto"), Groups("cpu", 2, 0, 4)),
        ({"CPU": 64.0, "GPU": 8.0}, ("auto", 1, "auto"), Groups("cuda", 8, 1, 0)),
        ({"CPU": 64.0, "GPU": 8.0}, ("auto", 3, "auto"), Groups("cuda", 2, 3, 0)),
        ({"CPU": 64.0, "GPU": 8.0}, ("cuda", 2, 3), Groups("cuda", 3, 2, 0)),
        ({"CPU": 5.0, "GPU": 8.0}, ("cpu", 1, "auto"), Groups("cpu", 2, 0, 2)),
    ],
)
def test_groups_fill_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, float],
    arguments: tuple[Any, Any, Any],
    expected: Groups,
) -> None:
    have(monkeypatch, **resources)
    assert plan_groups(*arguments, tasks=100) == expected


@pytest.mark.parametrize(
    ("resources", "arguments", "message"),
    [
        ({"CPU": 2.0}, ("auto", 1, "auto"), "at least 3 CPUs"),
        ({"CPU": 8.0}, ("cuda", 1, "auto"), "the cluster has 0"),
        ({"CPU": 8.0, "GPU": 2.0}, ("auto", 4, "auto"), "needs 4 GPUs"),
        ({"CPU": 8.0, "GPU": 2.0}, ("auto", 1, 3), "use --replicas 2"),
    ],
)
def test_what_does_not_fit_is_said_with_numbers(
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, float],
    arguments: tuple[Any, Any, Any],
    message: str,
) -> None:
    have(monkeypatch, **resources)
    with pytest.raises(UserError, match=message):
        plan_groups(*arguments, tasks=100)


def test_no_group_is_started_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, CPU=64.0, GPU=8.0)
    assert plan_groups("auto", 1, "auto", tasks=3).replicas == 3
    assert plan_groups("cpu", 1, "auto", tasks=1).replicas == 1
