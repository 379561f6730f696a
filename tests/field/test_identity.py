"""Inputs that once gave a quietly wrong dataset: seeds, ids and what a row claims."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import generate
from pipeline.config.run_config import load_config
from pipeline.dataset.committed import Committed
from pipeline.models.prompt_length import local_tokenizer
from pipeline.models.resolve import resolve_model
from pipeline.prompts.reader import read_source
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from tests.e2e.outputs import rows_of

HERE = Path(__file__).parent
SMALL = (
    *("--sampling.width=32", "--sampling.height=32", "--sampling.num-frames=5"),
    "--sampling.num-inference-steps=4",
)


def intake_of(file: str, *flags: str) -> tuple[Intake, list[SampleRequest]]:
    """Read a file as a run of the embedded model would."""
    config = load_config([f"--prompts={HERE / file}", "--output=unused", *flags])
    defaults = request_defaults(config, resolve_model(config.model))
    rows = read_source(config.prompts, config.prompt_column)
    intake = Intake(rows, defaults, Committed(), config.samples_per_prompt)
    return intake, list(intake)


@dataclasses.dataclass(frozen=True)
class Made:
    """A finished run: its output, its rows in the order of the input, and what it said."""

    folder: Path
    rows: list[dict[str, Any]]
    said: str


def made(folder: Path, *flags: str) -> Made:
    """Run the job on the rows of `long.jsonl` and of `seeds.jsonl`."""
    prompts, output = folder / "long.jsonl", folder / "out"
    prompts.write_text(
        "".join((HERE / f"{n}.jsonl").read_text().strip() + "\n" for n in ("long", "seeds"))
    )
    given = [f"--prompts={prompts}", f"--output={output}", "--cache.policy=none", "--replicas=1"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert generate.main([*given, *SMALL, *flags, "--no-contact-sheet"]) == 0
    rows = sorted(rows_of(output), key=lambda row: str(row["source_key"]))
    return Made(output, rows, " ".join(said.getvalue().split()))


@pytest.fixture(scope="module")
def inline(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("inline"))


def frames_of(folder: Path, row: dict[str, Any]) -> str:
    """A digest of the decoded frames of a clip."""
    with av.open(str(folder / row["video"]["path"])) as opened:
        frames = [frame.to_ndarray().tobytes() for frame in opened.decode(video=0)]
    return hashlib.sha256(b"".join(frames)).hexdigest()


@pytest.mark.slow
def test_seeds_that_agree_in_32_bits_give_clips_of_their_own(inline: Made) -> None:
    rows = inline.rows[-4:]
    seeds = [5, 2**32 + 5, 7 * 2**32 + 5, 2**64 - 1]
    assert [row["seed_u64"] for row in rows] == seeds
    assert [row["seed"] for row in rows] == [*seeds[:3], None]
    assert len({frames_of(inline.folder, row) for row in rows}) == 4


def test_copies_never_take_the_seed_of_the_next_row() -> None:
    _, requests = intake_of("copies.jsonl", "--samples-per-prompt=2")
    assert len({request.seed for request in requests}) == 8
    assert [request.seed for request in requests[::2]] == [0, 1, 2, 3]


def test_one_prompt_has_one_seed_under_every_quality() -> None:
    seeds = [
        [request.seed for request in intake_of("scenes.txt", *flags)[1]]
        for flags in (
            ["--cache.quality=fast"],
            ["--cache.quality=balanced"],
            ["--cache.policy=none", "--sampling.num-inference-steps=20"],
        )
    ]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0])) == 3


def test_guidance_that_is_off_makes_one_sample() -> None:
    intake, requests = intake_of("off.jsonl")
    assert [(r.guidance_scale, r.negative_prompt) for r in requests] == [
        (1.0, ""),
        (1.5, "blurry"),
    ]
    assert (intake.counts.duplicates, intake.counts.unread_negatives) == (3, 1)


def test_words_for_missing_values_are_empty_cells_and_counted() -> None:
    intake, requests = intake_of("missing.csv")
    assert [(r.prompt, r.seed == 7, r.negative_prompt, r.width) for r in requests] == [
        ("a fox", False, "", 64),
        ("a dog", False, "", 64),
        ("a none-such hen", True, "null, void", 64),
    ]
    assert intake.counts.markers == 4
    assert [r.message for r in intake.rejected] == ["prompt is 'nan', a word for a missing value"]


def test_typed_columns_of_databases_and_data_frames_are_numbers(tmp_path: Path) -> None:
    """Decimals as DuckDB writes them, small integers, NaN for a gap as pandas writes it."""
    table = pa.table(
        {
            "prompt": ["a red circle", "a blue square"],
            "guidance_scale": pa.array([Decimal("5.5"), None], pa.decimal128(2, 1)),
            "num_frames": pa.array([9, 5], pa.uint8()),
            "fps": [12.0, float("nan")],
            "seed": pa.array([2**64 - 1, 3], pa.uint64()),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    intake, requests = intake_of(str(tmp_path / "p.parquet"))
    default = requests[1]
    assert [(r.guidance_scale, r.num_frames, r.fps, r.seed) for r in requests] == [
        (5.5, 9, 12, 2**64 - 1),
        (default.guidance_scale, 5, default.fps, 3),
    ]
    assert (default.guidance_scale, default.fps) == (4.0, 8)
    assert (intake.counts.markers, intake.counts.rejected) == (1, 0)


def test_a_gate_without_room_rejects_its_row_before_anything_is_sampled() -> None:
    intake, requests = intake_of("short.jsonl", "--cache.budget=0.34", "--cache.gate=2")
    assert [r.num_inference_steps for r in requests] == [2, 50]
    (row,) = intake.rejected
    assert "num_inference_steps 6: " in row.message
    assert "gate is 2" in row.message


def test_a_negative_prompt_that_nothing_reads_rejects_its_row() -> None:
    flags = ("--model=hunyuanvideo", "--cache.policy=none")
    intake, requests = intake_of("negative.csv", *flags)
    assert [r.prompt for r in requests] == ["a red circle"]
    assert "negative_prompt: hunyuanvideo reads none" in intake.rejected[0].message


@pytest.mark.slow
@pytest.mark.parametrize("dry", [pytest.param(True, marks=pytest.mark.slow), False])
def test_an_input_of_bad_rows_alone_ends_with_code_1_and_its_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dry: bool
) -> None:
    flags = [f"--prompts={HERE / 'all_bad.jsonl'}", f"--output={tmp_path}"]
    for _ in range(2):  # the second run finds the rows recorded, and ends the same
        assert generate.main([*flags, *["--dry-run"] * dry]) == 1
        shown = capsys.readouterr()
        assert "2 rejected: seed is -1, outside 0 to" in " ".join(shown.out.split())
        assert "1 rejected: prompt is empty (first: line 3 of all_bad.jsonl)" in " ".join(
            shown.out.split()
        )
        assert "3 of 3 input rows were rejected" in shown.err
        assert ("the output rows say why" in shown.err) == (not dry)
        assert ("a run writes the reason of each into its output row" in shown.err) == dry
    assert dry or [row["status"] for row in rows_of(tmp_path)] == ["rejected"] * 3
    assert generate.main([*flags, "--dry-run", "--max-rejected-fraction=1"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["inline", pytest.param("separate", marks=pytest.mark.variant)])
def test_a_prompt_that_is_cut_off_is_marked_and_counted(
    inline: Made, tmp_path: Path, stage: str
) -> None:
    run = inline if stage == "inline" else made(tmp_path, f"--stages.text={stage}")
    rows, said = run.rows[:3], run.said
    assert "2 prompts are longer than the 32 tokens that the model reads" in said
    assert "(first: line 2 of long.jsonl)" in said
    assert "1 prompt is like another one but for what the model does not read" in said
    assert "the end of the prompt of 2 clips" in said
    tokenizer = local_tokenizer(resolve_model("demo"))
    assert tokenizer is not None
    assert [row["prompt_tokens"] for row in rows] == [
        len(tokenizer.tokens(row["caption"], 1) or []) for row in rows
    ]
    assert [row["prompt_truncated"] for row in rows] == [False, True, True]
    report = json.loads((run.folder / "report/report.json").read_text())
    assert report["totals"]["truncated"] == 2
