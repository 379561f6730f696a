"""Numbers, money and plurals in messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prefix.first_card import MARK
from pipeline.wording import are, called_as, counted, dollars, place_of_row, quoted, rate


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 rows are"), (1, "1 row is"), (2, "2 rows are"), (1001, "1001 rows are")],
)
def test_one_is_singular_and_everything_else_plural(number: int, said: str) -> None:
    assert f"{counted(number, 'row')} {are(number)}" == said


def test_thousands_are_separated_where_asked() -> None:
    assert counted(1_234_567, "clip", grouped=True) == "1,234,567 clips"
    assert counted(1, "clip", grouped=True) == "1 clip"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5, "2.5 clips/s"), (0.1, "6.0 clips/min"), (0.001, "3.6 clips/h"), (0, "0.0 clips/h")],
)
def test_rate(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "$0"), (0.000976, "0.0976¢"), (0.0104, "1.04¢"), (0.1, "10¢"), (0.4999, "50¢")],
        *[
            (0.9996, "$1.00"),
            (12.344, "$12.34"),
            (21.06, "$21.06"),
            (250, "$250"),
            (12_345, "$12,300"),
        ],
    ],
)
def test_money_is_said_for_people(value: float, text: str) -> None:
    assert dollars(value) == text


@given(st.floats(1e-9, 1e9))
def test_money_has_three_digits_that_count_or_cents_and_is_near_its_value(value: float) -> None:
    text = dollars(value)
    digits = text.strip("$¢").replace(",", "")
    told = float(digits) / (100 if text.endswith("¢") else 1)
    assert told == pytest.approx(value, rel=0.0051)
    assert len(digits.replace(".", "").strip("0")) <= (4 if 10 <= told < 100 else 3)
    assert (told < 1) == text.endswith("¢")


@given(st.integers(0, 3), st.sampled_from(["clip", "row", "sample", "near duplicate"]))
def test_a_count_is_worded_right(number: int, noun: str) -> None:
    assert counted(number, noun) == f"{number} {noun}{'' if number == 1 else 's'}"


NOUNS = (
    *("clip", "row", "sample", "pair", "prompt", "part", "file", "group", "shard", "frame", "cell"),
    *("draft", "control", "evaluation", "call", "node", "attempt", "run", "kind", "score", "text"),
    *("caption", "token", "step", "column", "duplicate", "process", "error", "line", "value"),
)
PLURAL = re.compile(rf" (?:[a-z]+ )?(?:{'|'.join(NOUNS)})e?s\b")
MORE_THAN_ONE = {
    "attempts/blame.py: self._ends",
    "attempts/blame.py: len(self._victims)",
    "attempts/in_a_row.py: len(victims)",
    "calibration/measure.py: facts.network_evaluations",
    "prompts/condition_reader.py: SILENT",
    "report/candidates/own_drafts.py: FEW",
    "report/input_columns.py: MOST_VALUES",
    "report/input_columns.py: MOST_COLUMNS",
    "requests/defaults.py: first",
    "requests/long_prompts.py: self.limit",
    "wording.py: clips_per_s * 3600",
    "wording.py: clips_per_s * seconds",
}
"""Numbers that are never 1 where they are said, or have decimals."""
NO_NUMBER = {
    "commands/export.py: its",
    "export/mixed_settings.py: has",
    "export/spool.py: scores",
    "models/catalogue/safety_checker.py: name",
    "models/memory/preflight.py: call.work",
    "report/good_clips/meanings.py: over",
    "report/pricing/fits.py: counts",
    "report/pricing/offers.py: counts",
    "report/tables/clip_kinds.py: columns",
    "report/verdict/contents.py: files",
    "report/verdict/quality_answer.py: 'it has' if head.unpaired == 1 else 'they have'",
    "scoring/conditions.py: listed",
}
"""Words before a noun in the plural."""
BESIDE_ANOTHER = {
    "cluster/nodes.py: groups.most",
    "monitoring/progress.py: at.total",
    "monitoring/progress.py: at.reuse_ratio",
    "monitoring/summary.py: counted(counts.redraws, 'redraw')",
    "report/candidates/own_drafts.py: counted(without, 'clip', grouped=True)",
    "report/card.py: head.nfe_mean or 0",
    "report/text.py: percent(head.reuse_ratio)",
}
"""Numbers of something else than the noun, or totals as in `1/1 clips`."""


def bare_counts(tree: ast.AST) -> Iterator[str]:
    """Values of f-strings that a plural follows, though they may be 1; `2 of 3 clips` may."""
    for text in ast.walk(tree):
        if not isinstance(text, ast.JoinedStr):
            continue
        for at, (value, after) in enumerate(zip(text.values, text.values[1:], strict=False)):
            before = text.values[at - 1] if at else None
            said = str(before.value) if isinstance(before, ast.Constant) else ""
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            if PLURAL.match(str(after.value)) and not said.endswith((" of ", "/", " of about ")):
                yield ast.unparse(value.value)


def test_no_message_writes_a_plural_beside_a_bare_number() -> None:
    root = Path(__file__).parents[2] / "pipeline"
    found = {
        f"{source.relative_to(root)}: {value}"
        for source in root.rglob("*.py")
        for value in bare_counts(ast.parse(source.read_text()))
    }
    assert found == MORE_THAN_ONE | NO_NUMBER | BESIDE_ANOTHER


def test_bare_counts_are_found() -> None:
    code = ['f"{n} clips"', 'f"{n} failed clips"', 'f"{k} of {n} clips"', "f'{n:,} rows left'"]
    assert list(bare_counts(ast.parse("\n".join(code)))) == ["n", "n", "n"]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("my.csv:7", "row 7 of my.csv"),
        ("s3://b/x.parquet:12", "row 12 of s3://b/x.parquet"),
        ("lines.jsonl.gz:3", "line 3 of lines.jsonl.gz"),
        ("p.txt:1", "line 1 of p.txt"),
        ("dataset:5", "row 5 of dataset"),
        ("odd", "odd"),
        ("s3://bucket", "s3://bucket"),
        (":3", ":3"),
    ],
)
def test_the_place_of_a_row_does_not_look_like_a_line_of_a_file(key: str, place: str) -> None:
    assert place_of_row(key) == place


def test_words_of_the_shell_are_quoted_for_people() -> None:
    assert quoted("cache.policy = 'none'") == "\"cache.policy = 'none'\""
    assert quoted('a "b" $c') == "'a \"b\" $c'"


def said_strings(tree: ast.AST) -> Iterator[str]:
    """The strings of a module that are no documentation."""
    documented = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in documented:
            yield node.value


def test_a_message_names_a_command_as_the_user_called_it() -> None:
    """Or at least so that it can be copied; `called_as` knows both ways."""
    root = Path(__file__).parents[2] / "pipeline"
    found = {
        text
        for source in root.rglob("*.py")
        for text in said_strings(ast.parse(source.read_text()))
        if re.search(r"(?<!python )\bjobs/\w+\.py", text)
    }
    assert found == {MARK}


def test_a_command_names_the_python_that_has_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / ".venv/bin"
    here.mkdir(parents=True)
    (here / "python").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["jobs/report.py"])
    monkeypatch.setattr("sys.executable", str(here / "python"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert called_as("score") == ".venv/bin/python jobs/score.py"
    monkeypatch.setenv("PATH", f"{here}:/usr/bin")  # activated
    assert called_as("score") == "python jobs/score.py"
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr("sys.executable", "/elsewhere/bin/python")
    assert called_as("score") == "python jobs/score.py"
    monkeypatch.setattr("sys.argv", ["/elsewhere/bin/sencache-pipeline score"])
    assert called_as("score") == "sencache-pipeline score"
