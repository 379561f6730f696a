"""Clips of several settings are told apart: by short names, in the verdict and in the tables."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.report.document import Report
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.tables.clip_kinds import MOST_SETTINGS
from pipeline.report.tables.document import ClipSettings
from pipeline.report.tables.mixture import short_names
from pipeline.report.text import print_report
from tests.pipeline.report.made import measure, row, write


def compared(number: int, psnr: float, error: float = 0.1, **more: Any) -> list[dict[str, Any]]:
    """A clip and its control, later than the first call of their process."""
    clip = row(number, up=50.0 if number else 10.0) | more
    quality = {"psnr_db": psnr, "ssim": 0.9, "lpips": None, "latent_error": error}
    twin = row(number, control=True, up=60.0, wall=3.0) | {"quality": quality}
    twin["control_of"] = clip["sample_id"]
    return [clip | {"cache": clip["cache"] | {"promised_error": 0.1}}, twin]


def other(number: int, psnr: float, error: float = 0.1, **more: Any) -> list[dict[str, Any]]:
    """The same prompt as `compared` of this number, with other settings."""
    clip, twin = compared(number, psnr, error, **more)
    ids = [f"{one['sample_id'][:-2]}ff" for one in (clip, twin)]
    twin |= {"sample_id": ids[1], "control_of": ids[0]}
    return [clip | {"sample_id": ids[0]}, twin]


def kind(**changes: Any) -> ClipSettings:
    same = {"settings": "demo planned S/3 #1a", "model": "demo", "policy": "planned", "steps": 10}
    same |= {"guidance_scale": 4.0, "width": 16, "height": 16, "num_frames": 5, "clips": 1}
    return ClipSettings(**{**same, "nfe_mean": 4.0, **changes})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([{}, {"guidance_scale": 6.5}], ["guidance 4", "guidance 6.5"]),
        ([{}, {"height": 32}], ["16x16", "16x32"]),
        (
            [{}, {"steps": 20, "seed": 7}],
            ["10 steps with seed of row or prompt", "20 steps with seed 7"],
        ),
        ([{}, {"settings": "demo planned S/3 #2b"}], ["#1a", "#2b"]),
        ([{}, {"settings": "demo none S/3 #2b"}], ["planned", "none"]),
        (
            [{"settings": ""}, {"settings": "", "policy": "none"}],
            ["planned", "none"],
        ),
        (
            [{}, {"settings": ""}],
            ["demo planned S/3 #1a", "settings that were not recorded"],
        ),
        (
            [
                {"settings": "demo planned max_error=0.01 S/3 #1a"},
                {"settings": "demo planned max_error=0.02 S/3 #2b"},
                {"settings": "demo planned max_error=0.02 S/3 #2b", "fps": 16},
            ],
            [
                "max_error=0.01 with 0 fps",
                "max_error=0.02 with 0 fps",
                "max_error=0.02 with 16 fps",
            ],
        ),
    ],
)
def test_a_name_says_what_differs_and_nothing_else(
    changes: list[dict[str, Any]], names: list[str]
) -> None:
    assert short_names([kind(**one) for one in changes]) == names


def of_two(tmp_path: Path) -> Report:
    """Two settings of equal steps and evaluations; three of the four prompts have clips of both."""
    rows = [one for n in range(4) for one in compared(n, 40.0)]
    rows += [one for n in range(3) for one in other(n, 20.0, 0.4, guidance_scale=6.0)]
    for at, clip in enumerate(rows):
        # All clips of one prompt look alike, and one of the first setting like the first clip.
        pattern = (
            "0" * 15 if clip["caption"] in ("clip 0", "clip 3") else f"{clip['caption'][-1]}" * 15
        )
        clip |= {"scores": [("motion", 0.5)], "scorers": ["m@1"], "score_s": 0.5}
        clip |= {"created_at": clip["created_at"].replace(microsecond=at)}
        clip["perceptual_hash"] = pattern
    return measure(write(tmp_path, rows), Prices())


def test_settings_of_equal_steps_have_a_line_each(tmp_path: Path) -> None:
    report = of_two(tmp_path)
    found = [(one.settings, one.nfe, one.pairs, one.psnr_db.value) for one in report.quality]
    assert sorted(found) == [("guidance 4", 4, 4, 40.0), ("guidance 6", 4, 3, 20.0)]
    page = render(report, {})
    assert "<td>planned, guidance 4</td>" in page
    assert "<td>planned, guidance 6</td>" in page
    text = io.StringIO()
    print_report(report, Console(file=text, width=300))
    assert "planned 4/10, guidance 4: PSNR 40.00 dB" in text.getvalue()
    assert "planned 4/10, guidance 6: PSNR 20.00 dB" in text.getvalue()
    assert report.verdict is not None
    assert "This blends pairs of guidance 4 and guidance 6; a table" in report.verdict.good
    assert "caching of guidance 6 is 4.0 times the promised one" in report.verdict.good
    (measured,) = [one for one in report.what_if if one.nfe == 4]
    assert measured.psnr_db == pytest.approx((4 * 40 + 3 * 20) / 7)


def test_the_verdict_begins_with_how_many_clips_are_of_which_setting(tmp_path: Path) -> None:
    report = of_two(tmp_path)
    assert report.verdict is not None
    assert report.repeated_prompts == 3
    assert report.good_clips is not None
    alike = report.good_clips.duplicates
    assert (alike.repeats, alike.of_other_settings) == (4, 3)
    assert report.verdict.got == (
        "7 clips, 4 s of video, and 7 uncached controls; nothing failed. They are of 2 settings: 4 "
        "of guidance 4 and 3 of guidance 6; 3 prompts were made with more than one of them. 4 "
        "clips are near duplicates of another one, 3 by the same prompt in other settings."
    )
    assert ", 3 of them of another setting of the same prompt" in render(report, {}).replace(
        '<span class="n" data-path="good_clips.duplicates.of_other_settings" data-word="count">3'
        "</span>",
        "3",
    )


def test_clips_of_one_setting_are_not_divided(tmp_path: Path) -> None:
    report = measure(
        write(tmp_path, [one for n in range(3) for one in compared(n, 40.0)]), Prices()
    )
    assert [(one.settings, one.kinds) for one in report.quality] == [("", 1)]
    assert [each.name for each in report.settings] == [""]
    assert report.verdict is not None
    assert report.verdict.got.endswith("nothing failed.")


def test_more_kinds_than_a_table_shows_share_a_line_that_says_so(tmp_path: Path) -> None:
    many = MOST_SETTINGS + 1
    rows = [one for n in range(many) for one in compared(n, 40.0, width=16 * (n + 1))]
    report = measure(write(tmp_path, rows), Prices())
    assert [(one.settings, one.pairs, one.kinds) for one in report.quality] == [
        (f"{many} settings together", many, many)
    ]
    assert report.verdict is not None
    assert f"They are of {many} settings, which a note below counts." in report.verdict.got
    assert f"This blends pairs of {many} settings together." in report.verdict.good


def test_clips_without_controls_are_found_by_all_that_differs(tmp_path: Path) -> None:
    rows = [one for n in range(3) for one in compared(n, 40.0)]
    rows += [row(n, up=50.0) | {"guidance_scale": 6.0} for n in range(3, 5)]
    report = measure(write(tmp_path, rows), Prices())
    assert (report.headline.unpaired, report.headline.unpaired_kinds) == (2, ["guidance 6"])
    assert report.verdict is not None
    assert "Not known of 2 cached clips of other settings (guidance 6): they have no controls." in (
        report.verdict.good
    )


def test_the_seed_of_a_run_is_a_setting(tmp_path: Path) -> None:
    storage = write(tmp_path, [row(0), row(1), row(2, run="r2")])
    for run, seed in (("r1", 1), ("r2", 2)):
        manifest = {"state": "done", "config": {"sampling": {"seed": seed}}}
        storage.put_bytes(f"runs/{run}.json", json.dumps(manifest).encode())
    assert [each.name for each in measure(storage, Prices()).settings] == ["seed 1", "seed 2"]
