"""A model of transformers that reads frames and a question, and answers in words.

Greedy decoding makes the same answer each time. Models are image-text-to-text models in the format
of transformers, with a chat template; a model that reads videos (Qwen2.5-VL) can be given one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.scoring.scorer import Frames
from pipeline.scoring.weights.source import WeightsSource

END_OF_THOUGHT = "</think>"
"""Stands between a model's reasons and its answer, where it gives reasons."""

Logits = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a model answered.

    Attributes:
        ids: The tokens of the answer.
        watched: Before each token, the logits of the tokens that were asked for, as generation
            chose by them; shape [tokens, watched].
    """

    ids: tuple[int, ...]
    watched: Logits


class VisualChat:
    """Asks a model about frames; several threads may use it, one is served at a time."""

    def __init__(self, source: WeightsSource) -> None:
        """Read the configuration and the processor; the weights are loaded with the first question.

        Raises:
            UserError: They cannot be read, or are of another kind of model.
        """
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoProcessor

        self._source = source
        config = source.config()
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise UserError(
                f"{source.flag}: a {config.model_type} model; it should read images and texts and "
                "write texts, as Qwen2.5-VL does"
            )
        self._processor = source.load_part(AutoProcessor)
        if not getattr(self._processor, "chat_template", None):
            raise UserError(f"{source.flag}: has no chat template, which asks it a question")
        self._lock = threading.Lock()

    @property
    def reads_videos(self) -> bool:
        """Whether the model takes a video beside images."""
        return getattr(self._processor, "video_processor", None) is not None

    def token(self, text: str) -> int | None:
        """The token that a text is, None if it is several."""
        ids = self._processor.tokenizer.encode(text, add_special_tokens=False)
        return int(ids[0]) if len(ids) == 1 else None

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        found: str = self._processor.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    def about_images(self, images: Sequence[Frames], question: str, new_tokens: int) -> ChatAnswer:
        """Ask about images, each uint8 RGB of shape [height, width, 3]."""
        return self._ask(["image"] * len(images), question, new_tokens, {"images": list(images)})

    def about_video(
        self,
        frames: Frames,
        question: str,
        new_tokens: int,
        options: Mapping[str, Any],
        watched: Sequence[int] = (),
    ) -> ChatAnswer:
        """Ask about a video.

        Args:
            frames: The frames that the model sees, uint8 RGB of shape [frames, height, width, 3].
            question: What follows the video.
            new_tokens: Longest answer.
            options: Further arguments of the model's processor.
            watched: Tokens whose logits are wanted.
        """
        inputs = {"videos": [list(frames)], **options}
        return self._ask(["video"], question, new_tokens, inputs, watched)

    def _ask(
        self,
        kinds: Sequence[str],
        question: str,
        new_tokens: int,
        inputs: Mapping[str, Any],
        watched: Sequence[int] = (),
    ) -> ChatAnswer:
        import torch

        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": question}]
        watch = _LogitsWatch(watched)
        with self._lock, torch.inference_mode():
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            given = self._processor(text=[text], return_tensors="pt", **inputs)
            # Processors give float32; weights may be bfloat16, and not every model converts.
            given = given.to(self._source.device, dtype=self._model.dtype)
            made = self._model.generate(
                **given, max_new_tokens=new_tokens, do_sample=False, logits_processor=[watch]
            )
        ids = made[0, given["input_ids"].shape[1] :].tolist()
        return ChatAnswer(tuple(ids), np.array(watch.seen, np.float32))

    @functools.cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForImageTextToText

        return self._source.load(AutoModelForImageTextToText, dtype="auto")


class _LogitsWatch:
    """Notes the logits of some tokens before each token of an answer, and changes none."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        self.seen: list[list[float]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self._tokens:
            self.seen.append(scores[0, self._tokens].float().tolist())
        return scores
