"""The four quick starts of the README do what they say.

`make demo` is run by `tests/e2e/test_report.py` and `ray job submit` by `tests/e2e/test_submit.py`,
with fewer steps and other places; here their commands are compared with those of the README.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.generate import main
from jobs.report import main as report
from pipeline.config.run_config import load_config
from tests.docs.documents import ROOT, blocks, commands, demo_flags
from tests.e2e.services import submit_command
from tests.sencache.support.toys import sample, tiny_pipe

STARTS = ("laptop", "GPU", "cluster", "library")
MOST_WORDS, LONGEST_PARAGRAPH = 1000, 60


def call_of(job: str, having: str) -> list[str]:
    """The one call of a job in the README that has a word."""
    (words,) = [
        words for words in commands("README.md") if f"jobs/{job}.py" in words and having in words
    ]
    return words


def test_the_readme_is_short_and_has_four_quick_starts() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= MOST_WORDS
    prose = re.sub(r"^(```.*?^```|\|.*?$|- .*?$)", "", text, flags=re.M | re.S)
    assert max(len(paragraph.split()) for paragraph in prose.split("\n\n")) <= LONGEST_PARAGRAPH
    titles = re.findall(r"^## Start .*\b(\w+)$", text, re.MULTILINE)
    assert titles == list(STARTS)


def test_laptop() -> None:
    assert ["make", "demo"] in [words[:2] for words in commands("README.md")]
    config = load_config(demo_flags())
    assert (config.model, config.output) == ("demo", "out/demo")
    assert 0 < config.control_fraction < 1  # so that its page shows speed-up and quality


@pytest.mark.slow
def test_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = call_of("generate", "--dry-run")
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red ball rolls to the left\n")
    assert main(words[2:]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 row · 1 clip to make" in said
    assert said.endswith("nothing was made.")
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_what_a_clip_on_one_gpu_costs(capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = [words for words in commands("README.md") if "--estimate" in words]
    assert report(words[2:]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "| H100" in line)
    _, _, _, price, _, each, _ = line.split("|")
    dollars = float(each.split("/")[2]) / 1000  # at 17 of 50 evaluations
    assert round(100 * dollars) == 3
    assert dollars / float(price) * 3600 == pytest.approx(30, abs=5)
    assert "about half a minute and 3 cents" in (ROOT / "README.md").read_text()


def test_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    words = call_of("generate", "submit")
    at = words.index("--")
    run = submit_command("ray", "http://HEAD:8265", "infra/runtime-env.yaml", [])
    assert words[: at + 1] == run
    monkeypatch.chdir(ROOT)
    assert load_config(words[at + 3 :]).output.startswith("s3://")


@pytest.mark.slow
def test_library(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for text in blocks("README.md", "python") if "apply_sencache" in text]
    pipe = tiny_pipe()

    class Pipe(type(pipe)):  # type: ignore[misc]
        """A pipeline without a text encoder, called as one that has it."""

        def __call__(self, *prompt: str, **options: Any) -> Any:
            if options:
                return super().__call__(**options)
            return type("Output", (), {"frames": sample(self, [len(prompt[0])], steps=50)})

    pipe.__class__ = Pipe
    names: dict[str, Any] = {"pipe": pipe}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["frames"]) == 1
    cache = names["cache"]
    assert capsys.readouterr().out.strip() == str(cache.summary()).strip()
    assert 0 < cache.stats()[0].reused < 50
