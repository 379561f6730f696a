"""Alerts by promtool, and every series that an alert or panel reads against a real scrape."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import ray.data
import yaml

from pipeline.monitoring import prometheus
from pipeline.monitoring.totals import RunTotals
from tests.e2e.services import free_port
from tests.infra.manifests import INFRA
from tests.system_tools import system_tool

MONITORING = INFRA / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
NEEDS_GPU = {"ray_node_gpus_utilization", "ray_node_gram_used"}
"""Exported by nodes with a GPU alone."""


def expressions() -> list[str]:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    told = [rule["expr"] for group in rules for rule in group["rules"]]
    return told + [target["expr"] for panel in PANELS for target in panel["targets"]]


def series(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", re.sub(r'"[^"]*"', '""', expression)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yaml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_takes_it(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [system_tool("promtool"), *words], cwd=MONITORING, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_says_what_to_do() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    alerts = [rule for group in rules for rule in group["rules"] if "alert" in rule]
    tested = (MONITORING / "alerts_test.yaml").read_text()
    for alert in alerts:
        assert alert["alert"] in tested
        assert alert["annotations"].keys() == {"summary", "action"}
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_alerts_become_a_rule_of_the_prometheus_operator() -> None:
    done = subprocess.run(
        [sys.executable, MONITORING / "prometheus_rule.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    rule = yaml.safe_load(done.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((MONITORING / "alerts.yaml").read_text())


def test_every_panel_answers_a_question_and_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["title"].endswith("?")
        assert panel["description"]
        assert panel["targets"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_prometheus_parses_the_expressions_of_a_panel(panel: dict[str, Any], tmp_path: Any) -> None:
    rules = [
        {"record": f"r{number}", "expr": target["expr"].replace("$cluster", "session")}
        for number, target in enumerate(panel["targets"])
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panel", "rules": rules}]}))
    done = subprocess.run(
        [system_tool("promtool"), "check", "rules", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scraped() -> Iterator[set[str]]:
    """Names in a scrape of a Ray node on which every series of ours was counted once."""
    port = free_port()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        logging_level="ERROR",
        object_store_memory=100 << 20,
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    count_everything()
    list(
        ray.data.range(4, override_num_blocks=1)
        .map_batches(Slow, compute=ray.data.ActorPoolStrategy(size=1))
        .iter_rows()
    )
    wanted = {each.exported for each in prometheus.ALL}
    names: set[str] = set()
    while not wanted <= names:  # the test's own time limit ends it
        count_everything()  # Ray forgets a gauge that is not set again
        time.sleep(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            names |= set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    yield names
    ray.shutdown()


class Slow:
    def __call__(self, batch: Any) -> Any:
        time.sleep(2)  # longer than the interval at which Ray Data reports
        return batch


def count_everything() -> None:
    run = prometheus.RunTelemetry("r", total=9, model="m", policy="p", gpu_price_per_hour=1.0)
    totals = RunTotals(ok=1, failed=1, rejected=1, gpu_s=1.0, video_s=1.0, nfe=1, steps=2)
    totals.failed_attempts = 1
    run.update(totals)
    prometheus.count_store_retry("write")
    prometheus.WatchedEngine(OneClip()).generate([None])  # type: ignore[list-item]


class OneClip:
    device_name, group_size = "d", 1

    def generate(self, requests: Any) -> list[Any]:
        time.sleep(0.01)
        clip = {"cache": {"disagreements": 1}, "engine_s": None}
        return [type("Clip", (), clip)() for _ in requests]

    def close(self) -> None:
        return


@pytest.mark.slow
def test_every_series_that_is_read_is_one_that_is_exported(scraped: set[str]) -> None:
    read = set().union(*(series(expression) for expression in expressions()))
    assert {"ray_sencache_samples_total", "ray_data_num_alive_actors"} <= read
    assert read - scraped - NEEDS_GPU == set()


@pytest.mark.slow
def test_every_series_of_ours_is_exported_and_read(scraped: set[str]) -> None:
    ours = {each.exported for each in prometheus.ALL}
    assert ours <= scraped
    read = set().union(*(series(expression) for expression in expressions()))
    variables = {variable.get("definition", "") for variable in DASHBOARD["templating"]["list"]}
    read |= set().union(*(series(text) for text in variables))
    assert ours <= read
