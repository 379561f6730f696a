"""Calibrations that are broken off and taken up again."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sencache import ProfileError, SensitivityProfile, calibrate
from sencache.calibration.journal import CalibrationProgress, FileJournal, Journal
from tests.sencache.support.toys import (
    LINEAR,
    LinearPipe,
    LinearTransformer,
    euler,
    unipc,
)


class Memory:
    """A journal in memory that says how often it was written."""

    def __init__(self, text: str = "") -> None:
        self.text, self.saves = text, 0

    def __str__(self) -> str:
        return "memory"

    def load(self) -> str:
        return self.text

    def save(self, text: str) -> None:
        self.text = text
        self.saves += 1


class Killed(LinearPipe):
    """A pipeline that dies in the middle of its n-th call."""

    calls = 0

    def __init__(self, transformer: LinearTransformer, scheduler: Any, dies_at: int) -> None:
        super().__init__(transformer, scheduler)
        self.dies_at = dies_at

    @functools.wraps(LinearPipe.__call__)  # its arguments' defaults are part of the journal
    def __call__(self, **kwargs: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.dies_at:
            self.transformer.register_forward_pre_hook(_die)
        return super().__call__(**kwargs)


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def network() -> LinearTransformer:
    """A network whose sensitivities differ from clip to clip in their last bits."""
    return LinearTransformer(0.3, 1.7)


def measure(pipe: Any, journal: Journal | None, **options: Any) -> SensitivityProfile:
    settings = {"model": "toy", "seeds": range(5), "batch_size": 2, "progress": False} | options
    return calibrate(pipe, ["a cat", "a longer dog"], family=LINEAR, journal=journal, **settings)


def test_a_calibration_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = measure(LinearPipe(network(), unipc()), None)
    journal = FileJournal(tmp_path / "journal")
    with pytest.raises(KeyboardInterrupt):
        measure(Killed(network(), unipc(), dies_at=2), journal)
    assert len(journal.load().splitlines()) == 2  # what it is of, and the first two clips
    rest = LinearPipe(network(), unipc())
    assert measure(rest, journal) == whole
    assert sum(rest.transformer.calls) == whole.metadata.network_evaluations * 3 // 5
    assert list(tmp_path.iterdir()) == [tmp_path / "journal"]


def test_a_finished_calibration_is_not_measured_again() -> None:
    journal = Memory()
    whole = measure(LinearPipe(network(), euler()), journal)
    assert journal.saves == 3  # batches
    again = LinearPipe(network(), euler())
    assert measure(again, journal) == whole
    assert again.transformer.calls == []


def test_progress_counts_the_clips_that_were_finished_before() -> None:
    journal = Memory()
    measure(LinearPipe(network(), euler()), journal)
    journal.text = "\n".join(journal.text.splitlines()[:3])
    seen: list[tuple[int, int]] = []
    measure(LinearPipe(network(), euler()), journal, progress=lambda *counts: seen.append(counts))
    assert seen == [(step, 30) for step in range(21, 31)]


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_last_line_is_measured_again(cut: int) -> None:
    journal = Memory()
    whole = measure(LinearPipe(network(), euler()), journal)
    journal.text = journal.text[:-1][:-cut]
    pipe = LinearPipe(network(), euler())
    assert measure(pipe, journal) == whole
    assert set(pipe.transformer.calls) == {1}  # the last batch has one clip


def test_a_torn_first_line_begins_anew() -> None:
    journal = Memory('{"format": "sencache-jour')
    assert measure(LinearPipe(network(), euler()), journal) == measure(
        LinearPipe(network(), euler()), None
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model 'toy' but this calibration has 'other'"),
        ({"revision": "v2"}, "revision '' but this calibration has 'v2'"),
        ({"seeds": [0, 1, 2, 3, 9]}, "seeds"),
        ({"batch_size": 3}, "batch_size 2 but this calibration has 3"),
        ({"call_kwargs": {"num_inference_steps": 7}}, "num_inference_steps 10 .* has 7"),
        ({"call_kwargs": {"guidance_scale": 2.0}}, r"guidance_scale 4.0 .* has 2.0"),
        ({"call_kwargs": {"output_dir": "x"}}, "call_kwargs"),
    ],
)
def test_a_journal_of_another_calibration_is_refused(change: dict[str, Any], named: str) -> None:
    journal = Memory()
    measure(LinearPipe(network(), euler()), journal)
    with pytest.raises(ProfileError, match=f"^memory: journal was begun with {named}"):
        measure(LinearPipe(network(), euler()), journal, **change)


def test_another_scheduler_network_or_prompt_is_another_calibration() -> None:
    journal = Memory()
    measure(LinearPipe(network(), euler()), journal)
    with pytest.raises(ProfileError, match="sampler 'FlowMatchEuler"):
        measure(LinearPipe(network(), unipc()), journal)
    other = euler()
    other.register_to_config(shift_terminal=0.1)
    with pytest.raises(ProfileError, match="scheduler '"):
        measure(LinearPipe(network(), other), journal)
    larger = network()
    larger.config.layers = 2
    with pytest.raises(ProfileError, match="architecture"):
        measure(LinearPipe(larger, euler()), journal)
    with pytest.raises(ProfileError, match="prompts"):
        calibrate(
            LinearPipe(network(), euler()),
            ["a dog"],
            model="toy",
            seeds=range(5),
            batch_size=2,
            family=LINEAR,
            journal=journal,
            progress=False,
        )


def test_damage_is_told_from_a_torn_end() -> None:
    journal = Memory()
    measure(LinearPipe(network(), euler()), journal)
    head, first, *rest = journal.text.splitlines()
    for text, message in (
        ("\n".join([head, first[:50], *rest]), "line 2 of the journal is damaged"),
        ("\n".join([head, '{"first_clip": 0}', *rest]), "line 2 of the journal is no batch"),
        ("\n".join([head, "[]", *rest]), "line 2 of the journal is no batch"),
        ("[1]\n" + first, "journal has format 'list'"),
        (json.dumps({"format": "x/9"}), "journal has format 'x/9'"),
    ):
        with pytest.raises(ProfileError, match=message):
            measure(LinearPipe(network(), euler()), Memory(text))


def test_without_a_journal_nothing_is_kept() -> None:
    progress = CalibrationProgress(None, {"model": "toy"})
    assert progress.get(0) is None


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal")
    assert journal.load() == ""
    assert str(journal) == str(tmp_path / "journal")
    journal.save("one\n")
    journal.save("two\n")
    assert journal.load() == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    (tmp_path / "journal").write_bytes(b"{}\n\xff\xfe")  # torn by a crash in the file system
    assert journal.load().startswith("{}\n")
