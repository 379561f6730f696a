"""Captioner `vision-language`: a local vision-language model describes evenly spread frames."""

from __future__ import annotations

from pipeline.scoring.scorer import Frames
from pipeline.scoring.weights.source import WeightsSource, spread_frames
from pipeline.scoring.weights.visual_chat import END_OF_THOUGHT, VisualChat

QUESTION = (
    "These are frames of one short video, in order. Describe the video in one or two sentences: "
    "what it shows, how it moves, light, colours and camera. Answer with the description alone."
)
NEW_TOKENS = 256
METHOD = 1
"""Part of the version; changes with the question, the choice of frames and the decoding."""


class VisionLanguageCaptioner:
    """Asks a model for its most likely description of 8 evenly spread frames.

    The frames are given as images, so every image-text-to-text model of transformers with a chat
    template serves (Qwen2.5-VL, SmolVLM, LLaVA-OneVision). It never sees the prompt, so it cannot
    repeat what the clip does not show.
    """

    name = "vision-language"

    def __init__(self, argument: str = "") -> None:
        """Take a model: a folder with safetensors or a Hub id, and `:cuda` to run on a GPU.

        Raises:
            UserError: The model cannot be read, or is of another kind.
        """
        source = WeightsSource.parse(self.name, argument, "--captioner")
        self._chat = VisualChat(source)
        self.version = f"{source.version()}.{METHOD}"

    def caption(self, frames: Frames, fps: float, prompt: str) -> str:
        """Describe a clip; see :class:`pipeline.captioning.captioner.Captioner`."""
        answer = self._chat.about_images(spread_frames(frames), QUESTION, NEW_TOKENS)
        return self._chat.text(answer.ids).rpartition(END_OF_THOUGHT)[2].strip()
