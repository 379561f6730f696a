"""An export of clips of several settings says so, and names the condition that picks each."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.export import main
from pipeline.dataset import mp4
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row, to_table
from pipeline.export.mixed_settings import exported_settings
from pipeline.export.select import select
from pipeline.requests.controls import control_for
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.storage.storage import Storage

SAMPLE = SampleRequest(
    "p", "", "demo", "r", "S/3", 4, 4.0, 16, 16, 3, 8, 32, 0, CacheIdentity("planned", "{}", "h")
)
PLAIN = CacheIdentity()
ODD = "a 'quoted' \"text\" of `signs` and $HOME"


def stored(
    folder: Path, requests: Sequence[SampleRequest], runs: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Store clips and their rows, each in the run of its number."""
    rows = []
    for number, request in enumerate(requests):
        run = runs[number] if runs else "r1"
        cache = {"policy": request.cache.policy, "nfe": 4, "reused": 0}
        row = make_row(request, Provenance(run, "cpu"), SampleOutcome("ok", "", "", cache))
        path = folder / row["video"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        mp4.write(np.full((3, 16, 16, 3), 20 * number, np.uint8), 8, row, path)
        data = path.read_bytes()
        rows.append(
            row | {"media_bytes": len(data), "media_sha256": hashlib.sha256(data).hexdigest()}
        )
    (folder / "data").mkdir()
    pq.write_table(to_table(rows), folder / "data/part-r1-00000.parquet")
    return rows


def variants(count: int, **changes: Any) -> list[SampleRequest]:
    return [dataclasses.replace(SAMPLE, prompt=f"clip {n}", **changes) for n in range(count)]


def counts(folder: Path, seeds: Mapping[str, int] | None = None, where: str = "") -> dict[str, int]:
    """How many clips of each kind an export counts, by its condition."""
    splits = {"train": 1.0}
    with select(Storage(str(folder)), where=where, splits=splits, seeds=seeds) as chosen:
        found = exported_settings(chosen.spool)
    return dict(zip(found.conditions, (kind.clips for kind in found.kinds), strict=True))


@pytest.mark.parametrize(
    ("changes", "conditions"),
    [
        ([{}, {"cache": PLAIN}], ["cache.policy = 'planned'", "cache.policy = 'none'"]),
        ([{}, {"num_inference_steps": 8}], ["num_inference_steps = 4", "num_inference_steps = 8"]),
        ([{}, {"model": "other"}], ["model = 'demo'", "model = 'other'"]),
        ([{}, {"guidance_scale": 1.1}], ["guidance_scale = 4", "guidance_scale = 1.1"]),
        (
            [{}, {"guidance_scale_2": 0.1}],
            ["guidance_scale_2 is null", "guidance_scale_2 = 0.1"],
        ),
        ([{}, {"height": 32}, {"height": 48}], ["height = 16", "height = 32", "height = 48"]),
        (
            [{}, {"negative_prompt": ODD}],
            ["negative_prompt = ''", f"negative_prompt = '{ODD.replace(chr(39), chr(39) * 2)}'"],
        ),
        (
            [{}, {"num_inference_steps": 8}, {"num_inference_steps": 8, "cache": PLAIN}],
            [
                "cache.policy = 'planned' and num_inference_steps = 4",
                "cache.policy = 'planned' and num_inference_steps = 8",
                "cache.policy = 'none' and num_inference_steps = 8",
            ],
        ),
    ],
)
def test_each_kind_is_counted_and_its_condition_picks_it_alone(
    tmp_path: Path, changes: list[dict[str, Any]], conditions: list[str]
) -> None:
    sizes = range(len(changes) + 1, 1, -1)
    kinds = [variants(size, **one) for size, one in zip(sizes, changes, strict=True)]
    stored(tmp_path, [*itertools.chain(*kinds), control_for(kinds[0][0])])
    expected = dict(zip(conditions, sizes, strict=True))
    assert counts(tmp_path) == expected
    for condition, clips in expected.items():
        assert counts(tmp_path, where=condition) == {"": clips}


def test_settings_that_no_other_column_tells_apart_are_picked_by_their_text(tmp_path: Path) -> None:
    rows = stored(tmp_path, [*variants(2), *variants(1, sampler="S/5")])
    conditions = [f"settings = '{row['settings']}'" for row in (rows[0], rows[2])]
    assert counts(tmp_path) == dict(zip(conditions, (2, 1), strict=True))
    assert counts(tmp_path, where=conditions[1]) == {"": 1}


def test_the_seed_of_a_run_is_a_setting_and_that_of_a_row_is_none(tmp_path: Path) -> None:
    large = 2**64 - 1
    requests = [*variants(2, seed=7), *variants(1, seed=large)]
    stored(tmp_path, requests, ["a", "a", "b"])
    assert counts(tmp_path) == {"": 3}
    assert counts(tmp_path, {"a": 7, "b": large}) == {"seed_u64 = 7": 2, f"seed_u64 = {large}": 1}
    assert counts(tmp_path, {"a": 7}) == {"": 1}  # two kinds, and no condition picks the second


def test_many_negative_prompts_are_texts_of_rows_and_not_settings(tmp_path: Path) -> None:
    requests = [variants(1, negative_prompt=f"not {n}")[0] for n in range(13)]
    stored(tmp_path, requests)
    assert counts(tmp_path) == {"": 13}


@pytest.mark.parametrize("name", ["webdataset", "hub"])
def test_console_card_and_record_say_what_is_mixed_and_how_to_pick_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source, target = tmp_path / "out", tmp_path / "to"
    rows = stored(source, [*variants(2), *variants(1, num_inference_steps=8)])
    flags = ["--output", str(source), "--to", str(target), "--format", name]
    assert main([*flags, "--where", "fps = 8"]) == 0
    said = capsys.readouterr().out
    heading = (
        "The clips were made with 2 different settings, and 1 prompt has clips of more than one."
    )
    assert heading in " ".join(said.split())
    what = f"{rows[0]['settings']}, 16x16, 3 frames, 4 steps, guidance 4, 4.0 NFE"
    other = what.replace("4 steps", "8 steps")
    assert f'2 clips of {what}: --where "(fps = 8) and num_inference_steps = 4"\n' in said
    assert f'1 clip of {other}: --where "(fps = 8) and num_inference_steps = 8"\n' in said
    record = json.loads((target / "export.json").read_text())
    assert record["settings"] == [
        {"clips": 2, "what": what, "where": "num_inference_steps = 4"},
        {"clips": 1, "what": other, "where": "num_inference_steps = 8"},
    ]
    if name == "hub":
        card = (target / "README.md").read_text()
        assert heading in card
        assert f'- 2 clips of {what}: `--where "num_inference_steps = 4"`\n' in card
    before = (target / "export.json").read_bytes()
    assert main([*flags, "--where", "fps = 8"]) == 0  # the same export again
    assert (target / "export.json").read_bytes() == before
    capsys.readouterr()

    (source / rows[2]["video"]["path"]).unlink()
    alone = tmp_path / "alone"
    assert main(["--output", str(source), "--to", str(alone), "--format", name]) == 1
    assert "different settings" not in capsys.readouterr().out  # its only clip is left out
    assert "settings" not in json.loads((alone / "export.json").read_text())


def test_one_setting_is_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = variants(3)
    stored(tmp_path / "out", [first, *others, control_for(first)])
    flags = ["--output", str(tmp_path / "out"), "--to", str(tmp_path / "to"), "--format", "hub"]
    assert main([*flags, "--with-controls"]) == 0
    assert "different settings" not in capsys.readouterr().out
    assert "different settings" not in (tmp_path / "to/README.md").read_text()
    assert "settings" not in json.loads((tmp_path / "to/export.json").read_text())
