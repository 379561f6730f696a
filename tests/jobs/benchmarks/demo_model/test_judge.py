"""The judge must be right on real clips and must notice what is wrong with broken ones."""

from __future__ import annotations

import pytest
import torch

from jobs.benchmarks.demo_model.captions import Attributes
from jobs.benchmarks.demo_model.evaluate import held_out_rows, score
from jobs.benchmarks.demo_model.judge import SpriteReading, agreement, judge
from jobs.benchmarks.demo_model.sprites import attributes_of, render


def _clips(count: int, seed: int = 0) -> tuple[torch.Tensor, list[Attributes]]:
    rows = held_out_rows(count, seed)
    clips = render(rows, torch.Generator().manual_seed(seed))
    return clips, [attributes_of(row) for row in rows]


def test_real_clips_are_read_without_error() -> None:
    clips, wanted = _clips(40)
    shares = score(clips, wanted)
    assert shares["all"] == 1.0
    assert shares["vanished"] == 0.0
    assert shares["jumped"] == 0.0
    assert shares["fit"] > 0.97


def test_reading_survives_noise_and_blur() -> None:
    clips, wanted = _clips(20, seed=1)
    noise = 0.05 * torch.randn(clips.shape, generator=torch.Generator().manual_seed(2))
    blurred = torch.nn.functional.avg_pool3d(clips + noise, (1, 3, 3), 1, (0, 1, 1))
    assert score(blurred, wanted)["all"] >= 0.95


def test_missing_frame_counts_as_vanished() -> None:
    clips, _ = _clips(4, seed=3)
    clips[:, :, 8] = clips[:, :, 8, :, :1]
    assert all(verdict.vanished for verdict in judge(clips))


def test_frame_out_of_order_counts_as_jump() -> None:
    quick = [row for row in held_out_rows(120, seed=4) if attributes_of(row).speed == "quickly"]
    clips = render(torch.stack(quick[:4]), torch.Generator().manual_seed(4))
    assert not any(verdict.jumped for verdict in judge(clips))
    clips[:, :, 5] = clips[:, :, -1]  # 22 pixels off the path
    verdicts = judge(clips)
    assert all(verdict.jumped for verdict in verdicts)
    assert not any(verdict.vanished for verdict in verdicts)


def test_time_reversal_reverses_the_direction_only() -> None:
    clips, wanted = _clips(8, seed=5)
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    for verdict, want in zip(judge(clips.flip(2)), wanted, strict=True):
        right = agreement(verdict, want)
        assert verdict.seen is not None
        assert verdict.seen.direction == opposite[want.direction]
        assert not right["direction"]
        assert not right["all"]
        assert right["colour"]
        assert right["shape"]
        assert right["speed"]
        assert right["background"]


def test_frozen_clip_has_no_direction() -> None:
    clips, _ = _clips(2, seed=6)
    frozen = clips[:, :, :1].expand(-1, -1, 17, -1, -1)
    assert [v.seen.direction for v in judge(frozen) if v.seen is not None] == ["still", "still"]


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_empty_clip_shows_nothing(level: float) -> None:
    assert judge(torch.full((1, 3, 17, 64, 64), level)) == [SpriteReading(None, True, False)]


def test_agreement_counts_only_what_the_caption_names() -> None:
    seen = Attributes("red", "circle", "left", "slowly", "gray")
    verdict = SpriteReading(seen, vanished=False, jumped=False)
    asked = Attributes("red", "circle", "left")
    assert agreement(verdict, asked) == dict.fromkeys(("colour", "shape", "direction", "all"), True)
    assert not any(agreement(SpriteReading(None, True, False), asked).values())


def test_wrong_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        judge(torch.zeros(1, 17, 3, 64, 64))
