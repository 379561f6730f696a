"""The report of a real run, opened in a real browser without a network, and its loaders."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import ray
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from rich.console import Console

from jobs.export import main as export
from jobs.generate import main as generate
from jobs.report import main as report
from pipeline.config.run_config import RunConfig
from pipeline.report.page import written
from pipeline.run import run
from pipeline.storage.storage import Storage
from tests.docs.documents import demo_flags
from tests.e2e.engines import obedient
from tests.pipeline.report.hostile import PROMPTS
from tests.system_tools import system_tool

SECTIONS = (
    *("overview", "caching", "time", "throughput", "steps"),
    *("cost", "waste", "gallery"),
)
PLOTS = ("time", "throughput", "nfe", "decisions")

CUT = """[...document.querySelectorAll('.tile .value, .tile .label, .tile .more')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
"""Texts of tiles that their tile cuts off."""

OVERLAPPING = """[...document.querySelectorAll('.chart svg')].flatMap(chart => {
    const texts = [...chart.querySelectorAll('text')].map(e => [e, e.getBoundingClientRect()]);
    return texts.flatMap(([e, a], at) => texts.slice(at + 1)
        .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 2 && b.top < a.bottom - 2)
        .map(([other]) => e.textContent + ' / ' + other.textContent));
})"""
"""Texts of a chart that lie over one another."""

WAIT_S = 1200

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prefix(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `make demo` with own prompts and a bad row; an engine with a failure."""
    folder = tmp_path_factory.mktemp("report")
    output = folder / "out"
    lines = [{"prompt": prompt} for prompt in PROMPTS[:4]] + [{"prompt": "odd", "width": 17}]
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "bad.txt").write_text("raise\nfine\n")
    flags = [*demo_flags(), "--prompts", str(folder / "p.jsonl"), "--output", str(output)]
    flags += ["--sampling.num-inference-steps", "6", "--cache.budget", "0.5"]
    flags += ["--control-fraction", "1", "--batch-rows", "2", "--replicas", "1"]
    assert generate(flags) == 0
    settings: dict[str, Any] = {"prompts": str(folder / "bad.txt"), "output": str(output)}
    config = RunConfig(**settings, cache={"policy": "none"}, max_attempts=2, replicas=1)
    run(config, factory=obedient(), console=Console(file=io.StringIO()))
    return output


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = system_tool("chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=options)
        yield opened
        opened.close()


class Visit:
    """A page opened without a network, and what it complained of or asked for."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: Any = "light") -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_S * 1000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri())

    def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript; Playwright's own way is `eval`, which is barred."""
        deadline = time.monotonic() + WAIT_S
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            self.page.wait_for_timeout(50)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)


def screenshot(page: Page, name: str, fallback: Path) -> None:
    folder = Path(os.environ.get("REPORT_SCREENSHOTS", fallback))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_the_page_shows_the_numbers_of_the_report_and_plays_without_a_network(
    prefix: Path, browser: Browser, tmp_path: Path
) -> None:
    path = prefix / "report/index.html"
    value = json.loads((prefix / "report/report.json").read_text())
    totals = value["totals"]
    assert (totals["ok"], totals["controls"]) == (5, 4)
    assert (totals["failed"], totals["rejected"]) == (1, 1)
    assert value["speedup"]["pairs"] + sum(value["speedup"]["left_out"].values()) == 4
    visit = Visit(browser, path, 1600)
    page = visit.page
    check_that_it_is_readable(page, 1600)
    screenshot(page, "light-1600", tmp_path)
    for section in SECTIONS:
        assert page.locator(f"section#{section} h2").is_visible()
    shown = page.eval_on_selector_all(
        "[data-path]", "all => all.map(e => [e.dataset.path, e.dataset.word, e.textContent])"
    )
    assert len(shown) > 60
    for where, word, text in shown:
        assert text == written(look_up(value, where), word), where
    for plot in PLOTS:
        assert page.locator(f"#plot-{plot} .chart > svg > *").count() > 2
    captions = page.locator("#gallery .card .caption").all_inner_texts()
    assert any("<script>window.pwned = 1</script>" in text for text in captions)
    assert any("window.pwned = 3" in text for text in captions)
    assert page.evaluate("typeof window.pwned") == "undefined"

    card = page.locator("#gallery .card").first
    card.locator("button").click()
    visit.until(
        "[...document.querySelector('#gallery .card').querySelectorAll('video')]"
        ".every(clip => clip.currentTime > 0.2 && clip.videoWidth > 0)"
    )
    assert card.locator("video").count() == 2
    fill = "getComputedStyle(document.querySelector('#plot-nfe rect')).fill"
    before = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    visit.until(f"{fill} != '{before}'")
    assert visit.requests == [path.as_uri()]
    assert visit.complaints == []
    screenshot(page, "dark-1600", tmp_path)


def test_the_page_is_readable_on_a_phone(prefix: Path, browser: Browser, tmp_path: Path) -> None:
    visit = Visit(browser, prefix / "report/index.html", 400)
    check_that_it_is_readable(visit.page, 400)
    assert visit.complaints == []
    screenshot(visit.page, "light-400", tmp_path)


def check_that_it_is_readable(page: Page, width: int) -> None:
    """Nothing is wider than the window, and no text is tiny."""
    beyond = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(e => !e.parentElement.closest('.scroll'))"
        f".filter(e => e.getBoundingClientRect().right > {width})"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert beyond == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "Math.min(...[...document.querySelectorAll('p, td, th, figcaption, .label, .value, .tag')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert small >= 12
    wide = page.evaluate(
        "Math.max(...[...document.querySelectorAll('figure, .card, .tile, .scroll')]"
        ".map(e => e.getBoundingClientRect().right))"
    )
    assert wide <= width
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []


def test_report_and_export_of_an_s3_prefix_are_those_of_the_folder(
    prefix: Path, s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import boto3

    for name, value in s3_env.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_env["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="reports")
    target = Storage("s3://reports/demo")
    for path in sorted(prefix.rglob("*")):
        if path.is_file() and path.parts[-2] != "report":
            target.put_file(str(path.relative_to(prefix)), path)
    assert report(["--output", "s3://reports/demo"]) == 0
    mine = json.loads((prefix / "report/report.json").read_text())
    # Its sentences name the place.
    text = target.read_bytes("report/report.json").decode()
    there = json.loads(text.replace("s3://reports/demo", str(prefix)))
    moving = {"generated_at": "", "output": ""}
    assert there | moving == mine | moving
    assert target.read_bytes("report/index.html").startswith(b"<!doctype html>")
    shards = []
    for place, to in ((str(prefix), tmp_path), ("s3://reports/demo", "s3://reports/tars")):
        assert export(["--output", place, "--to", str(to)]) == 0
        shards.append(Storage(str(to)).read_bytes("train-00000.tar"))
    assert shards[0] == shards[1]


def test_ray_data_reads_the_same_clips(prefix: Path) -> None:
    rows = ds.dataset(prefix / "data", format="parquet").to_table().to_pylist()
    want = {row["sample_id"]: (row["caption"], row["media_sha256"]) for row in rows}
    found = {}
    # One block: each further one would be read by a process of its own.
    data = ray.data.read_parquet(str(prefix / "data"), override_num_blocks=1)
    for row in data.take_all():
        found[row["sample_id"]] = (row["caption"], row["media_sha256"])
        if row["status"] == "ok":
            clip = (prefix / row["video"]["path"]).read_bytes()
            assert hashlib.sha256(clip).hexdigest() == row["media_sha256"]
    assert found == want


def look_up(value: Any, path: str) -> Any:
    for key in path.split("."):
        if value is None:
            return None
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value
