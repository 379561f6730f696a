"""A local vision-language model captions clips: tiny, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers

from pipeline.captioning.captioner import load_captioner
from pipeline.captioning.vision_language import QUESTION
from pipeline.errors import UserError
from tests.pipeline.scoring.weights.tiny_chat import chat_model, logits, vocabulary
from tests.pipeline.scoring.weights.tiny_models import classifier

pytestmark = pytest.mark.slow

FORM = (
    ("blue?</think>\na ",),
    ("red ", "blue ", "small ", "soft "),
    ("ball", "cat", "fish", "tree"),
    (" rolls\n",),
)


def test_captions_are_the_likeliest_words_about_eight_frames(tmp_path: Path) -> None:
    model, ids = chat_model(tmp_path, FORM), vocabulary(FORM)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    captioner = load_captioner(f"vision-language={tmp_path}")
    texts = set()
    for seed in range(6):
        frames = np.random.default_rng(seed).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        frames[:, :, :, seed % 3] //= 8
        image = "<|vision_start|><|image_pad|><|vision_end|>"
        text = f"<|im_start|>user\n{image * 8}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        seen = [frames[place] for place in (0, 2, 4, 6, 9, 11, 13, 15)]
        inputs = processor(text=[text], images=seen, return_tensors="pt")
        answer: list[int] = []
        for step in FORM:
            choices = [ids[each] for each in step]
            answer.append(choices[int(logits(model, inputs, answer)[choices].argmax())])
        words = {number: word for word, number in ids.items()}
        expected = "".join(words[each] for each in answer).strip().removeprefix("blue?</think>\n")
        assert captioner.caption(frames, 8.0, "what was asked for") == expected
        texts.add(expected)
    assert len(texts) > 1  # else they would not come from the frames


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    classifier(tmp_path / "vit", ("a", "b"))
    for folder, problem in (("vit", "a vit model"), ("none", str(tmp_path / "none"))):
        with pytest.raises(UserError, match="--captioner vision-language=") as caught:
            load_captioner(f"vision-language={tmp_path / folder}")
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
