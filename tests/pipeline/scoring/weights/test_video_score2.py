"""VideoScore2's interface against passes of the model by hand, on tiny random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from pipeline.errors import UserError
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.registry import load_scorers
from pipeline.scoring.scorer import ScoredClip
from tests.pipeline.scoring.weights.tiny_chat import chat_model, logits, vocabulary
from tests.pipeline.scoring.weights.tiny_models import classifier

pytestmark = pytest.mark.slow

DIGITS = ("1", "2", "3", "4", "5")
FORM = (
    ("its visual quality: 5 seems\ngood</think>\n(1) visual quality - clear: ",),
    DIGITS,
    (";\n(2) text-to-video alignment: ",),
    DIGITS,
    (",\n(3) Physical/Common-sense consistency: ",),
    DIGITS,
)
QUERY = "Which\nred ball: $t2v_prompt"


def made(frames: int, fps: float, caption: str = "a blue ball") -> ScoredClip:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8)
    return ScoredClip(pixels, fps, caption, {})


def argument(folder: Path) -> str:
    (folder / "query.txt").write_text(QUERY)
    return f"video-score2={folder}+{folder}/query.txt"


def by_hand(folder: Path, model: Any, clip: ScoredClip, seen: list[int]) -> list[float]:
    """Grades of an answer that is written token by token."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    ids = vocabulary(FORM)
    text = (
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>Which\nred ball: "
        f"{clip.caption}<|im_end|>\n<|im_start|>assistant\n"
    )
    inputs = processor(
        text=[text],
        videos=[clip.frames[seen]],
        return_tensors="pt",
        videos_kwargs={
            "do_sample_frames": False,
            "size": {"shortest_edge": 128 * 784, "longest_edge": 768 * 784},
            "cap_pixels_per_frame": False,
        },
    )
    # 32 x 48 pixels become 280 x 392, the least multiple of 28 of 128 x 28 x 28 pixels or more.
    assert inputs["video_grid_thw"].tolist() == [[len(seen) // 2, 20, 28]]
    inputs["second_per_grid_ts"] = [1.0]  # two frames, half a second each
    answer: list[int] = []
    grades = []
    for step in FORM:
        choices = [ids[each] for each in step]
        shares = (logits(model, inputs, answer)[choices] / 0.7).softmax(dim=0)
        if len(step) > 1:
            best = int(shares.argmax())
            grades.append((best + 1) * float(shares[best]))
        answer.append(choices[int(shares.argmax())])
    return grades


@pytest.mark.parametrize(
    ("frames", "fps", "seen"),
    [
        (16, 8.0, [0, 5, 10, 15]),  # two a second, evenly from the first to the last
        (21, 6.0, [0, 4, 8, 12, 16, 20]),  # 7 would be no even number
        (5, 24.0, [0, 1, 3, 4]),  # at least four
        (3, 24.0, [0, 2]),
    ],
)
def test_scores_are_the_grades_of_the_answer(
    tmp_path: Path, frames: int, fps: float, seen: list[int]
) -> None:
    model = chat_model(tmp_path, FORM)
    clip = made(frames, fps)
    (scorer,) = load_scorers([argument(tmp_path)])
    (found,) = scorer.score([clip])
    expected = by_hand(tmp_path, model, clip, seen)
    assert list(found.values()) == pytest.approx(expected, abs=1e-4)
    assert list(found) == list(scorer.scores)
    assert found == scorer.score([clip])[0]
    if frames == 16:
        assert found != scorer.score([made(17, fps)])[0]
        assert found != scorer.score([made(16, fps, "a red ball")])[0]


def test_scores_that_an_answer_does_not_hold_are_null(tmp_path: Path) -> None:
    chat_model(tmp_path, (*FORM[:2], (" of 9: ",), ("7",)))
    panel = ScorerPanel(load_scorers([argument(tmp_path)]))
    found = panel.score(made(4, 8.0))
    assert found.scores["visual_quality"] is not None
    assert found.scores["physical_consistency"] is None
    assert "it gave None for text_to_video_alignment" in found.missing
    assert "the model reads at least 2" in panel.score(made(1, 8.0)).missing


def test_an_answer_without_scores_is_quoted(tmp_path: Path) -> None:
    chat_model(tmp_path, (("visual quality: ",), ("12",)))
    panel = ScorerPanel(load_scorers([argument(tmp_path)]))
    assert "holds no score: …visual quality: 12" in panel.score(made(4, 8.0)).missing


def test_the_version_names_weights_and_query(tmp_path: Path) -> None:
    chat_model(tmp_path, FORM)
    given = argument(tmp_path)
    (before,) = load_scorers([given])
    (tmp_path / "query.txt").write_text(f"{QUERY}?")
    (after,) = load_scorers([given])
    assert before.version != after.version
    assert before.version.partition("+")[0] == after.version.partition("+")[0]


def test_mistakes_are_one_line_before_anything_is_scored(tmp_path: Path) -> None:
    chat_model(tmp_path, FORM)
    classifier(tmp_path / "vit", ("a", "b"))
    good = argument(tmp_path).partition("+")[0]
    (tmp_path / "other.txt").write_text("Which $prompt?")
    (tmp_path / "price.txt").write_text("Which $t2v_prompt for 3 $?")
    for text, problem in (
        (good, "MODEL+QUERY.txt"),
        (f"{good}+{tmp_path}/none.txt", "cannot read"),
        (f"{good}+{tmp_path}/other.txt", "should hold $t2v_prompt"),
        (f"{good}+{tmp_path}/price.txt", "should hold $t2v_prompt"),
        (f"video-score2={tmp_path}/vit+{tmp_path}/query.txt", "a vit model; it should read images"),
    ):
        with pytest.raises(UserError, match="--scorers video-score2=") as caught:
            load_scorers([text])
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
