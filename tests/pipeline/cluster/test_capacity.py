from typing import Any

import pytest
import ray

from pipeline.cluster.capacity import Groups, plan_groups
from pipeline.errors import UserError

Node = dict[str, float]


def have(monkeypatch: pytest.MonkeyPatch, *nodes: Node) -> None:
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 64.0}}
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: [dead, *alive])


BIG: Node = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "arguments", "expected"),
    [
        ([{"CPU": 4.0}], ("auto", 1, "auto"), Groups("cpu", 3, 3, 0, 1)),
        ([{"CPU": 9.0}], ("cpu", 2, "auto"), Groups("cpu", 4, 4, 0, 2)),
        ([{"CPU": 9.0}], ("cpu", 4, "auto"), Groups("cpu", 2, 2, 0, 4)),
        ([BIG], ("auto", 1, "auto"), Groups("cuda", 8, 8, 1, 0)),
        ([BIG], ("auto", 3, "auto"), Groups("cuda", 2, 2, 3, 0)),
        ([BIG], ("cuda", 2, 3), Groups("cuda", 3, 3, 2, 0)),
        ([{"CPU": 5.0, "GPU": 8.0}], ("cpu", 2, "auto"), Groups("cpu", 2, 2, 0, 2)),
        (
            [{"GPU": 3.0}, {"GPU": 3.0}, {"CPU": 4.0}],
            ("auto", 2, "auto"),
            Groups("cuda", 2, 2, 2, 0),
        ),
        ([{"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 8.0}], ("cpu", 4, "auto"), Groups("cpu", 4, 4, 0, 4)),
        ([{"CPU": 3.0}, {"CPU": 3.0}], ("cpu", 2, "auto"), Groups("cpu", 2, 2, 0, 2)),
    ],
)
def test_groups_fill_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[Node],
    arguments: tuple[Any, Any, Any],
    expected: Groups,
) -> None:
    have(monkeypatch, *nodes)
    assert plan_groups(*arguments, tasks=100) == expected


@pytest.mark.parametrize(
    ("nodes", "arguments", "message"),
    [
        ([{"CPU": 2.0}], ("auto", 2, "auto"), "at least 3 CPUs"),
        ([{"CPU": 3.0}, {"CPU": 3.0}], ("cpu", 4, 1), "6 CPUs, at most 3 on a node"),
        ([{"CPU": 8.0}], ("cuda", 1, "auto"), "^--device cuda: the cluster has no GPU"),
        ([{"CPU": 8.0, "GPU": 2.0}], ("auto", 4, "auto"), "needs 4 GPUs"),
        ([{"GPU": 2.0}, {"GPU": 2.0}], ("auto", 4, 1), "4 GPUs, at most 2 on a node"),
        ([{"CPU": 8.0, "GPU": 2.0}], ("auto", 1, 3), "use --replicas 2"),
        ([{"GPU": 3.0}, {"GPU": 3.0}], ("auto", 2, 3), "use --replicas 2"),
    ],
)
def test_what_does_not_fit_is_said_with_numbers(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[Node],
    arguments: tuple[Any, Any, Any],
    message: str,
) -> None:
    have(monkeypatch, *nodes)
    with pytest.raises(UserError, match=message):
        plan_groups(*arguments, tasks=100)


def test_this_machine_is_judged_before_ray_starts() -> None:
    own = {"CPU": 4.0, "GPU": 1.0}
    assert plan_groups("auto", 1, "auto", tasks=9, own=own) == Groups("cuda", 1, 1, 1, 0)
    with pytest.raises(UserError, match=r"^--parallel.degree 2 needs 2 GPUs .* machine has 1 GPU:"):
        plan_groups("cuda", 2, "auto", tasks=9, own=own)
    with pytest.raises(UserError, match=r"^--device cuda: this machine has no GPU .* --device cpu"):
        plan_groups("cuda", 1, "auto", tasks=9, own={"CPU": 4.0, "GPU": 0.0})


def test_no_group_is_started_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, BIG)
    assert plan_groups("auto", 1, "auto", tasks=3).replicas == 3
    assert plan_groups("cpu", 1, "auto", tasks=1).replicas == 1


def test_a_rank_on_cpus_can_have_several(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, {"CPU": 9.0})
    groups = plan_groups("cpu", 2, "auto", tasks=100, cpus_per_rank=2)
    assert (groups.replicas, groups.num_cpus) == (2, 4)


@pytest.mark.parametrize(
    ("degree", "cores", "expected"), [(1, 2, 2), (1, 3, 3), (1, 1, 1), (2, 2, 1), (2, 1, 1)]
)
def test_groups_fill_the_cores_that_there_are_not_the_cpus_that_ray_counts(
    monkeypatch: pytest.MonkeyPatch, degree: int, cores: int, expected: int
) -> None:
    have(monkeypatch, {"CPU": 4.0})
    assert plan_groups("cpu", degree, "auto", tasks=100, cores=cores).replicas == expected
    if degree == 1:  # who names a number has it
        assert plan_groups("cpu", degree, 3, tasks=100, cores=cores).replicas == 3


def test_only_an_automatic_number_of_groups_grows_with_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, BIG)
    for replicas, grows, expected in (("auto", True, 100), ("auto", False, 8), (3, True, 3)):
        groups = plan_groups("auto", 1, replicas, tasks=100, grows=grows)  # type: ignore[arg-type]
        assert groups.most == expected
    assert plan_groups("auto", 1, "auto", tasks=3, grows=True).most == 3


def test_a_fixed_number_of_groups_begins_with_fewer_where_nodes_can_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, {"CPU": 1.0}, {"CPU": 5.0})
    groups = plan_groups("cpu", 2, 4, tasks=100, grows=True)
    assert (groups.replicas, groups.most) == (2, 4)
    assert groups.remark.startswith("the cluster has room for 2 of 4 groups")
    have(monkeypatch, BIG)
    groups = plan_groups("cuda", 8, 3, tasks=100, grows=True)
    assert (groups.replicas, groups.most) == (1, 3)
    with pytest.raises(UserError, match="replicas 3 do not fit"):
        plan_groups("cuda", 8, 3, tasks=100)


@pytest.mark.parametrize(("degree", "expected"), [(1, 4), (2, 1), (8, 1)])
def test_groups_on_cpus_are_no_more_than_memory_holds(
    monkeypatch: pytest.MonkeyPatch, degree: int, expected: int
) -> None:
    have(monkeypatch, {"CPU": 16.0, "memory": 3.5 * 2**30}, {"CPU": 16.0, "memory": 1.5 * 2**30})
    assert plan_groups("cpu", degree, "auto", tasks=100).replicas == expected
    if degree == 1:  # who names a number has it
        assert plan_groups("cpu", degree, 9, tasks=100).replicas == 9


def test_groups_can_keep_off_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [
        {"NodeID": name, "Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}} for name in "ab"
    ]
    monkeypatch.setattr(ray, "nodes", lambda: there)
    assert plan_groups("cuda", 1, "auto", tasks=9).replicas == 4
    assert plan_groups("cuda", 1, "auto", tasks=9, avoid=["a"]).replicas == 2
    with pytest.raises(UserError, match="the cluster has no GPU"):
        plan_groups("cuda", 1, "auto", tasks=9, avoid=["a", "b"])


def test_gpus_that_no_group_can_use_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, {"GPU": 3.0}, {"GPU": 4.0}, {"GPU": 3.0}, {"CPU": 8.0})
    assert plan_groups("auto", 2, "auto", tasks=100).remark == (
        "2 of 10 GPUs stay idle: nodes with 3, 3 GPUs cannot be divided by --parallel.degree 2, "
        "and a group does not span nodes"
    )
    assert plan_groups("auto", 1, "auto", tasks=100).remark == ""
    assert plan_groups("auto", 2, 1, tasks=100).remark == ""
    have(monkeypatch, {"GPU": 1.0}, {"GPU": 2.0})
    assert plan_groups("auto", 2, "auto", tasks=100).remark.startswith(
        "1 of 3 GPUs stays idle: a node with 1 GPU cannot be divided by"
    )


def test_room_is_left_for_the_text_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, {"CPU": 8.0})
    assert plan_groups("cpu", 2, "auto", tasks=9).replicas == 3
    assert plan_groups("cpu", 2, "auto", tasks=9, other_cpus=2).replicas == 2
    with pytest.raises(UserError, match="2 CPUs on one node and the rest of the run 8 more"):
        plan_groups("cpu", 2, "auto", tasks=9, other_cpus=7)
    have(monkeypatch, {"GPU": 4.0}, {"GPU": 3.0})
    assert plan_groups("cuda", 2, "auto", tasks=9).replicas == 3
    odd = plan_groups("cuda", 2, "auto", tasks=9, other_gpus=0.5)
    assert (odd.replicas, odd.remark) == (3, "")  # it takes the one that no group can use
    assert plan_groups("cuda", 2, "auto", tasks=9, other_gpus=2.0).replicas == 2
    have(monkeypatch, {"GPU": 1.0})
    with pytest.raises(UserError, match="beside 1 for text encoding"):
        plan_groups("cuda", 1, "auto", tasks=9, other_gpus=0.5)
