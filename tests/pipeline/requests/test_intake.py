"""Rows to pending requests, against a naive reading of the rules."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.candidates.drafts import candidates_of
from pipeline.dataset.committed import Committed, Ids
from pipeline.dataset.schema import rejected_row, to_table
from pipeline.errors import RowRejectedError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.prompt_file import SourceRow
from pipeline.requests.controls import control_for
from pipeline.requests.from_row import RequestDefaults, build_request, rejected_id
from pipeline.requests.intake import CHUNK_ROWS, Intake
from pipeline.requests.reasons import InputCounts
from pipeline.requests.sample_request import SampleRequest
from pipeline.requests.seeds import copy_seed, next_try
from tests.property_examples import examples

DEFAULTS = RequestDefaults(
    template=SampleRequest(
        prompt="",
        negative_prompt="",
        model="demo",
        model_revision="r1",
        sampler="Euler/3.0",
        num_inference_steps=4,
        guidance_scale=5.0,
        width=64,
        height=64,
        num_frames=9,
        fps=8,
        max_sequence_length=32,
        seed=0,
    ),
    seed=None,
    sizes=SizeRules(16, 4),
)


def rows(*values: dict[str, Any] | str) -> list[SourceRow]:
    """Rows of values; a text stands for a row that could not be read."""
    return [
        SourceRow(f"p.csv:{i}", {"prompt": "raw"}, value)
        if isinstance(value, str)
        else SourceRow(f"p.csv:{i}", value)
        for i, value in enumerate(values, 1)
    ]


def holding(*hex_ids: str, failed: tuple[str, ...] = ()) -> Committed:
    def packed(ids: tuple[str, ...]) -> Ids:
        return Ids.from_bytes(bytes.fromhex("".join(sorted(ids))))

    return Committed(packed((*hex_ids, *failed)), packed(failed))


def test_order_and_keys() -> None:
    intake = Intake(rows({"prompt": "b"}, {"prompt": "a", "seed": 3}), DEFAULTS, Committed())
    found = list(intake)
    assert [(r.prompt, r.source_key) for r in found] == [("b", "p.csv:1"), ("a", "p.csv:2")]
    assert found[1].seed == 3
    assert intake.counts == InputCounts(read=2, pending=2)


def test_equal_ids_are_one_sample() -> None:
    intake = Intake(rows({"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}), DEFAULTS, Committed())
    assert [r.source_key for r in intake] == ["p.csv:1", "p.csv:2"]
    assert intake.counts == InputCounts(read=3, pending=2, duplicates=1)


def test_copies_have_their_own_seeds() -> None:
    intake = Intake(rows({"prompt": "a"}, {"prompt": "b", "seed": 7}), DEFAULTS, Committed(), 3)
    found = list(intake)
    assert [r.prompt for r in found] == ["a"] * 3 + ["b"] * 3
    assert len({r.sample_id for r in found}) == 6
    assert [r.seed for r in found[3:]] == [7, copy_seed(7, 1), copy_seed(7, 2)]


def test_steps_of_the_pending_clips_are_counted() -> None:
    source = rows({"prompt": "a"}, {"prompt": "a"}, {"prompt": "b", "num_inference_steps": 9})
    intake = Intake(source, DEFAULTS, Committed(), 2)
    list(intake)
    assert intake.steps == {DEFAULTS.template.num_inference_steps: 2, 9: 2}


def test_committed_samples_are_not_made_again() -> None:
    source = rows({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}, {"prompt": "a"})
    first = list(Intake(source, DEFAULTS, Committed()))
    done = holding(first[0].sample_id, failed=(first[1].sample_id,))
    intake = Intake(source, DEFAULTS, done)
    assert [r.prompt for r in intake] == ["c"]
    assert intake.counts == InputCounts(read=4, pending=1, done=2, done_failed=1, duplicates=1)


def test_limit_counts_rows_and_reads_no_further() -> None:
    def endless() -> Any:
        yield from rows({"prompt": "a"}, "broken")
        pytest.fail("read past the limit")

    intake = Intake(endless(), DEFAULTS, Committed(), samples_per_prompt=2, limit=2)
    assert len(list(intake)) == 2
    assert intake.counts == InputCounts(read=2, pending=2, rejected=1)


def test_it_streams() -> None:
    read = 0

    def source() -> Any:
        nonlocal read
        for row in rows(*({"prompt": f"p{n}"} for n in range(3 * CHUNK_ROWS))):
            read += 1
            yield row

    next(iter(Intake(source(), DEFAULTS, Committed())))
    assert read == CHUNK_ROWS


def test_rejected_rows_are_set_aside_once() -> None:
    source = rows(
        {"prompt": "a", "width": 65},
        "the line is not valid JSON",
        {"prompt": " "},
        {"prompt": "lone \ud800"},
        {"prompt": 5},
        {},
    )
    intake = Intake([*source, source[0]], DEFAULTS, Committed(), samples_per_prompt=2)
    assert list(intake) == []
    assert intake.counts == InputCounts(read=7, rejected=7)
    assert [(r.caption, r.source_key) for r in intake.rejected] == [
        ("a", "p.csv:1"),
        ("raw", "p.csv:2"),
        (" ", "p.csv:3"),
        ("lone ?", "p.csv:4"),
        ("5", "p.csv:5"),
        ("", "p.csv:6"),
        ("a", "p.csv:1"),
    ]
    assert intake.rejected[0].message == "width 65 is not a multiple of 16: use 64 or 80"
    assert intake.rejected[1].message == "the line is not valid JSON"
    ids = [r.sample_id for r in intake.rejected]
    assert ids == [*(rejected_id(r.values) for r in source), rejected_id(source[0].values, 1)]
    assert intake.reasons.rows == 7
    top = intake.reasons.top(1)[0]
    assert (top.rows, top.place) == (2, "p.csv:1")
    table = to_table(
        [
            rejected_row(r.sample_id, r.caption, r.source_key, "demo", "run", r.message)
            for r in intake.rejected
        ]
    )
    assert table["error_message"].null_count == 0


def test_rejected_rows_of_earlier_runs_are_not_recorded_again() -> None:
    source = rows("broken", {"prompt": ""})
    first = Intake(source, DEFAULTS, Committed())
    assert list(first) == []
    again = Intake(source, DEFAULTS, holding(*(r.sample_id for r in first.rejected)))
    assert list(again) == []
    assert again.rejected == []
    assert again.counts == InputCounts(read=2, rejected=2)


def test_a_rejected_row_that_moves_in_its_file_is_the_same_row() -> None:
    source = rows({"prompt": ""}, {"prompt": "", "seed": 1}, {"prompt": ""})
    first = Intake(source, DEFAULTS, Committed())
    assert list(first) == []
    known = {r.sample_id for r in first.rejected}
    assert len(known) == 3
    moved = rows({"prompt": "new"}, *(row.values for row in reversed(source)))
    again = Intake(moved, DEFAULTS, holding(*known))
    assert len(list(again)) == 1
    assert again.rejected == []
    assert again.counts == InputCounts(read=4, pending=1, rejected=3)


ROW = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["a", "b", "c", "", None])},
    optional={
        "seed": st.sampled_from([None, 0, 1, 2, -1, "x"]),
        "width": st.sampled_from([None, 64, 96, 65]),
    },
)


@given(
    values=st.lists(ROW | st.just("broken"), max_size=25),
    copies=st.integers(1, 3),
    limit=st.none() | st.integers(1, 30),
    share=st.integers(1, 4),
)
@settings(max_examples=examples(150), deadline=None)
def test_against_a_naive_oracle(
    values: list[dict[str, Any] | str], copies: int, limit: int | None, share: int
) -> None:
    source = rows(*values)
    everything: list[str] = []
    expected = InputCounts()
    pending: list[str] = []
    bad: list[str] = []
    repeats: Counter[str] = Counter()
    # What is committed: every `share`-th distinct id of the whole input.
    for row in source[: limit or len(source)]:
        try:
            if row.problem:
                raise RowRejectedError(row.problem)
            made = [
                build_request(row.values, DEFAULTS, row.key, k).sample_id for k in range(copies)
            ]
            everything += [f"+{i}" for i in made]
        except RowRejectedError:
            base = rejected_id(row.values)
            repeat = repeats[base]
            repeats[base] += 1
            everything.append(f"-{rejected_id(row.values, repeat)}")
    done = {i[1:] for i in list(dict.fromkeys(everything))[::share]}
    expected.read = min(len(source), limit or len(source))
    seen: set[str] = set()
    for entry in everything:
        kind, key = entry[0], entry[1:]
        if key in seen:
            expected.duplicates += 1
        elif kind == "-":
            expected.rejected += 1
            bad += [] if key in done else [key]
        elif key in done:
            expected.done += 1
        else:
            expected.pending += 1
            pending.append(key)
        seen.add(key)
    intake = Intake(source, DEFAULTS, holding(*done), copies, limit)
    assert [r.sample_id for r in intake] == pending
    assert intake.counts == expected
    assert [r.sample_id for r in intake.rejected] == bad


def tries_of(prompt: str) -> list[SampleRequest]:
    """All tries at the clip of a row, in order."""
    (found,) = Intake(rows({"prompt": prompt}), TRYING, Committed())
    tries = [found]
    while (following := next_try(tries[-1])) is not None:
        tries.append(following)
    return tries


TRYING = dataclasses.replace(
    DEFAULTS, template=dataclasses.replace(DEFAULTS.template, candidates=3)
)


@pytest.mark.parametrize(
    ("done", "bad", "pending"),
    [
        ((), (), 0),  # nothing is made
        ((0,), (), None),  # the first is good
        ((0,), (0,), 1),
        ((0, 1), (0,), None),
        ((0, 1), (0, 1), 2),
        ((0, 1, 2), (0, 1, 2), None),  # all are used up
        ((1,), (1,), 0),  # only a later one is here, of another run
    ],
)
def test_the_first_try_that_is_missing_is_made(
    done: tuple[int, ...], bad: tuple[int, ...], pending: int | None
) -> None:
    tries = tries_of("a")
    committed = holding(*(tries[number].sample_id for number in done))
    ids = b"".join(bytes.fromhex(tries[number].sample_id) for number in bad)
    intake = Intake(rows({"prompt": "a"}), TRYING, committed, not_good=Ids.from_bytes(ids).sorted())
    assert [tries.index(each) for each in intake] == ([] if pending is None else [pending])
    assert intake.counts.redraws == (1 if pending else 0)
    assert intake.counts.pending == (pending is not None)


@pytest.mark.parametrize(
    ("ok", "failed", "counts"),
    [
        ((), (), (1, 0, 0)),
        ((0,), (), (0, 1, 0)),
        ((2,), (), (0, 1, 0)),  # the third draft was the best
        ((), (1,), (0, 1, 1)),
        ((3,), (1,), (0, 1, 0)),
    ],
)
def test_a_clip_chosen_by_drafts_is_done_when_that_of_any_draft_is(
    ok: tuple[int, ...], failed: tuple[int, ...], counts: tuple[int, int, int]
) -> None:
    (base,) = Intake(rows({"prompt": "a"}), DEFAULTS, Committed())
    ids = [each.sample_id for each in candidates_of(base, 4)]
    done = holding(*(ids[n] for n in ok), failed=tuple(ids[n] for n in failed))
    intake = Intake(rows({"prompt": "a"}), DEFAULTS, done, best_of=4)
    assert list(intake) == [base] * counts[0]
    found = intake.counts
    assert (found.pending, found.done, found.done_failed) == counts


def test_the_control_of_a_clip_chosen_by_drafts_has_its_seed() -> None:
    (base,) = Intake(rows({"prompt": "a"}), DEFAULTS, Committed())
    chosen = candidates_of(base, 4)[2]
    control = control_for(chosen)

    def pending(done: Committed) -> list[SampleRequest]:
        source = rows({"prompt": "a"})
        return list(Intake(source, DEFAULTS, done, control_fraction=1.0, best_of=4))

    assert pending(holding(chosen.sample_id, control.sample_id)) == []
    assert pending(holding(chosen.sample_id)) == [control]


def test_empty_negative_prompts_that_replace_a_default_are_counted() -> None:
    template = dataclasses.replace(DEFAULTS.template, negative_prompt="blurry")
    given = [
        {"prompt": "a", "negative_prompt": ""},
        {"prompt": "b", "negative_prompt": None},
        {"prompt": "c", "negative_prompt": "dark"},
        {"prompt": "d", "negative_prompt": "", "guidance_scale": 1.0},
        {"prompt": "e"},
    ]
    found = Intake(rows(*given), dataclasses.replace(DEFAULTS, template=template), Committed())
    assert [request.negative_prompt for request in found] == ["", "blurry", "dark", "", "blurry"]
    assert found.counts == InputCounts(read=5, pending=5, empty_negatives=1)
    none = Intake(rows(*given), DEFAULTS, Committed())
    assert (len(list(none)), none.counts.empty_negatives) == (5, 0)
