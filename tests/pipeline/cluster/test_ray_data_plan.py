"""What a run hands to Ray Data, stage by stage, without executing it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray

from pipeline.cluster import ray_data_plan
from pipeline.cluster.capacity import Groups
from pipeline.cluster.group_actor import CALLS_AT_ONCE, REQUEST_COLUMN, GroupActor
from pipeline.cluster.text_stage import TextActor, TextWatch
from pipeline.config.run_config import RunConfig
from pipeline.models.resolve import resolve_model
from pipeline.storage.storage import Storage

TABLES = [pa.table({REQUEST_COLUMN: ["{}"] * 10})]


class Recorded:
    """Records the calls on a dataset."""

    def __init__(self) -> None:
        self.block_rows = 0
        self.context = SimpleNamespace()
        self.stages: list[tuple[type, dict[str, Any]]] = []

    def repartition(self, *, target_num_rows_per_block: int) -> Recorded:
        self.block_rows = target_num_rows_per_block
        return self

    def map_batches(self, stage: type, **settings: Any) -> Recorded:
        self.stages.append((stage, settings))
        return self


def planned(
    monkeypatch: pytest.MonkeyPatch, groups: Groups, avoid: Sequence[str] = (), **settings: Any
) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(ray.data, "from_arrow_refs", lambda blocks: recorded)
    config = RunConfig.model_validate({"prompts": "p", "output": "o", **settings})
    ray_data_plan.requests_to_rows(
        [],
        config,
        resolve_model("demo", ""),
        groups,
        factory=None,
        storage=Storage("memory://plan"),
        ledger=None,  # type: ignore[arg-type]
        run_id="run",
        avoid=avoid,
    )
    return recorded


def test_groups_keep_off_the_nodes_that_a_second_pass_avoids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = Groups("cpu", 1, 1, 0, 2)
    ((_, settings),) = planned(monkeypatch, groups, device="cpu").stages
    assert settings["label_selector"] is None
    ((_, settings),) = planned(monkeypatch, groups, ["ab12", "cd34"], device="cpu").stages
    assert settings["label_selector"] == {"ray.io/node-id": "!in(ab12,cd34)"}


def test_tasks_go_to_groups_that_take_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(
        monkeypatch, Groups("cpu", 2, 7, 0, 4), batch_rows=3, batches_per_task=2, device="cpu"
    )
    assert made.block_rows == 6
    ((stage, settings),) = made.stages
    assert stage is GroupActor
    inspect.signature(GroupActor).bind(**settings["fn_constructor_kwargs"])
    assert (settings["batch_size"], settings["num_cpus"], settings["num_gpus"]) == (6, 4, None)
    pool = settings["compute"]
    assert (pool.min_size, pool.max_size) == (2, 7)
    assert pool.max_concurrent_calls_per_actor == pool.max_tasks_in_flight_per_actor
    assert pool.max_tasks_in_flight_per_actor == CALLS_AT_ONCE["inline"]
    assert pool.enable_true_multi_threading
    factory = settings["fn_constructor_kwargs"]["factory"]
    assert factory.args[0].parts == "all"


def test_a_decode_beside_the_next_clip_takes_another_engine_call_and_another_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for decode in ("inline", "beside"):
        made = planned(monkeypatch, Groups("cpu", 1, 1, 0, 2), stages={"decode": decode})
        ((_, settings),) = made.stages
        arguments = settings["fn_constructor_kwargs"]
        options = arguments["factory"].keywords["options"]
        tasks = settings["compute"].max_tasks_in_flight_per_actor
        found.append((arguments["calls"], tasks, options.decode_beside))
    assert found == [(1, 2, False), (2, 3, True)]


def test_texts_that_are_apart_have_actors_before_the_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = {"text": "separate", "text_replicas": 2, "text_cpus": 3}
    made = planned(monkeypatch, Groups("cpu", 1, 1, 0, 2), stages=stages, device="cpu")
    (text, settings), (group, of_group) = made.stages
    assert (text, group) == (TextActor, GroupActor)
    inspect.signature(TextActor).bind(*settings["fn_constructor_args"])
    assert (settings["num_cpus"], settings["compute"].min_size) == (3, 2)
    assert settings["batch_size"] == of_group["batch_size"]  # the same batches on both sides
    assert of_group["fn_constructor_kwargs"]["factory"].args[0].parts == "clips"
    (watch,) = made.context.custom_execution_callback_classes
    assert isinstance(watch(), TextWatch)


def test_groups_are_planned_beside_the_text_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 9.0}}])
    model = resolve_model("demo", "")
    monkeypatch.setattr(ray_data_plan, "own_cores", lambda: 64)
    for text, expected in (("inline", 4), ("separate", 3)):
        config = RunConfig.model_validate(
            {"prompts": "p", "output": "o", "batch_rows": 1, "stages": {"text": text}}
            | {"parallel": {"cpus_per_rank": 2}}
        )
        assert ray_data_plan.groups_for(10, config, model, grows=False).replicas == expected
    monkeypatch.setattr(ray_data_plan, "own_cores", lambda: 2)
    assert ray_data_plan.groups_for(10, config, model, grows=False).replicas == 1
    assert ray_data_plan.groups_for(10, config, model, grows=True).replicas == 3
