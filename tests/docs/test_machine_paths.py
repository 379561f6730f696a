"""No committed result, document or recorded output names a place of the machine that made it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT

FOLDERS = ("assets", "docs", "infra", "jobs", "pipeline", "sencache", "tests")
SUFFIXES = {".csv", ".html", ".ipynb", ".json", ".jsonl", ".md", ".svg", ".txt", ".yaml", ".yml"}
MACHINE_PATH = re.compile(
    r"(?<![\w.}>-])/(?:home|mnt|opt|private|root|scratch|tmp|Users|var|work|workspace)/"
    r"[^\s\"'`)\]]*"
)

MEANT: dict[str, dict[str, str]] = {
    "infra/aws/cluster.yaml": {
        "/tmp/ray": "where Ray keeps its logs on a node",
        "/opt/dlami/nvme/sencache": "the fast disk of AWS's image",
    },
    "infra/monitoring/prometheus.yml": {
        "/tmp/ray/prom_metrics_service_discovery.json": "where Ray lists what can be scraped",
    },
    "infra/kuberay/base/rayjob.yaml": {
        "/home/ray/sencache-pipeline/": "where our image holds this project",
    },
    "infra/kuberay/overlays/demo/run.yaml": {
        "/home/ray/sencache-pipeline/": "where our image holds this project",
    },
    "infra/kuberay/overlays/spot-fleet/kustomization.yaml": {
        "/mnt/nvme/sencache": "the fast disk of a node, which its provider mounts",
    },
}
"""Paths of containers and of cluster nodes by file: how they begin, and why they are meant."""


def texts() -> list[Path]:
    """The files of data and of documentation, whatever folder of the repository they are in."""
    within = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in (*ROOT.glob("*.*"), *within) if path.suffix in SUFFIXES)


def machine_paths(text: str) -> list[str]:
    return MACHINE_PATH.findall(text)


def test_no_text_names_a_place_of_the_machine_that_made_it() -> None:
    found = texts()
    results = [path for path in found if path.suffix == ".json" and "results" in path.parts]
    assert len(results) >= 10
    assert ROOT / "README.md" in found
    said = {
        f"{path.relative_to(ROOT)}: {place}"
        for path in found
        for place in machine_paths(path.read_text())
        if not place.startswith(tuple(MEANT.get(str(path.relative_to(ROOT)), ())))
    }
    assert said == set()


def test_every_exception_is_needed() -> None:
    for name, begins in MEANT.items():
        places = machine_paths((ROOT / name).read_text())
        for begin in begins:
            assert any(place.startswith(begin) for place in places), f"{name}: {begin}"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"clips": "/home/me/a.mp4"}', ["/home/me/a.mp4"]),
        ("see `/tmp/x.json`, or (/home/me/run)", ["/tmp/x.json", "/home/me/run"]),
        ("file:///root/a and x:/tmp/ray", ["/root/a", "/tmp/ray"]),
        ("out/tmp/a, {output}/var/b, s3://bucket/home/c and ./tmp/d", []),
    ],
)
def test_places_of_a_machine_are_told_from_other_paths(text: str, places: list[str]) -> None:
    assert machine_paths(text) == places
