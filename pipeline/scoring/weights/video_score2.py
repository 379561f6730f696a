"""Scorer `video-score2`: a vision-language model watches a clip and answers with three scores.

The public interface of VideoScore2 (He et al. 2025, arXiv:2509.22799; model card and evaluation
code of TIGER-Lab/VideoScore2, weights Apache-2.0): a Qwen2.5-VL in the format of transformers,
without code of its own. Facts that are taken from there:

- Frames: 2 a second, at least 4, an even number, evenly spread from the first to the last
  (qwen-vl-utils, `smart_nframes`). A frame has 128 to 768 tokens of 28 x 28 pixels. The model is
  told that frames are half a second apart, whatever the clip's length.
- The question is the query of the model card, with the clip's prompt in it. It is no part of this
  package: the argument names a file that holds it.
- A score is the likeliest of 1 to 5 at the place of the digit in the answer, times its share of the
  probability of all five.

The model card samples its answers at temperature 0.7. Here the answer is the likeliest one, so that
a clip keeps its scores; the shares are still taken at that temperature.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

from pipeline.errors import UserError, message_of
from pipeline.scoring.scorer import Frames, ScoredClip
from pipeline.scoring.weights.source import WeightsSource, content_hash
from pipeline.scoring.weights.visual_chat import END_OF_THOUGHT, ChatAnswer, VisualChat
from pipeline.wording import counted

FRAMES_PER_SECOND = 2.0
LEAST_FRAMES, MOST_FRAMES, FRAMES_AT_ONCE = 4, 768, 2
TOKEN_PIXELS = 28 * 28
LEAST_PIXELS, MOST_PIXELS = 128 * TOKEN_PIXELS, 768 * TOKEN_PIXELS
NEW_TOKENS = 1024
TEMPERATURE = 0.7
PROMPT = "t2v_prompt"
"""Name of the clip's prompt in the query, as the model card has it."""
GRADES = (1, 2, 3, 4, 5)
METHOD = 1
"""Part of the version; changes with anything here that changes scores."""

_LABELS = {
    "visual_quality": r"visual\s+quality",
    "text_to_video_alignment": r"text[\s-]+to[\s-]+video\s+alignment",
    "physical_consistency": r"physical\s*/\s*common[\s-]+sense\s+consistency",
}


class VideoScore2Scorer:
    """Visual quality, alignment with the prompt and physical consistency, each 0 to 5.

    A clip costs one pass of the model over its frames and the answer of up to 1,024 tokens, which
    begins with the model's reasons. A score that the answer does not hold is null.
    """

    name = "video-score2"
    scores = tuple(_LABELS)

    def __init__(self, argument: str = "") -> None:
        """Take a model and its query: `FOLDER_OR_HUB_ID[:cuda]+QUERY.txt`.

        Raises:
            UserError: One of them cannot be read, or is of another kind.
        """
        model, plus, query = argument.rpartition("+")
        if not plus:
            raise UserError(
                f"--scorers {self.name}={argument}: should be {self.name}=MODEL+QUERY.txt, where "
                f"QUERY.txt holds the query of the model card, with ${PROMPT} for the prompt"
            )
        flag = f"--scorers {self.name}={argument}"
        self._query = _read_query(Path(query), flag)
        source = WeightsSource.parse(self.name, model)
        self._chat = VisualChat(source)
        if not self._chat.reads_videos:
            raise UserError(f"{flag}: the model reads no videos; it should, as Qwen2.5-VL does")
        digits = [self._chat.token(str(grade)) for grade in GRADES]
        self._digits = [digit for digit in digits if digit is not None]
        if len(self._digits) < len(GRADES):
            raise UserError(f"{flag}: its tokenizer has no token for each digit from 1 to 5")
        self.version = f"{source.version()}+{content_hash([Path(query)])}.{METHOD}"

    def score(self, clips: Sequence[ScoredClip]) -> list[Mapping[str, float]]:
        """Score clips; see :class:`pipeline.scoring.scorer.Scorer`."""
        return [self._one(clip) for clip in clips]

    def _one(self, clip: ScoredClip) -> Mapping[str, float]:
        frames = _sampled(clip.frames, clip.fps)
        told = {
            "fps": FRAMES_PER_SECOND,
            "total_num_frames": len(frames),
            "frames_indices": list(range(len(frames))),
        }
        options = {
            "videos_kwargs": {
                "do_sample_frames": False,
                "video_metadata": [told],
                "size": {"shortest_edge": LEAST_PIXELS, "longest_edge": MOST_PIXELS},
                "cap_pixels_per_frame": True,
            }
        }
        question = self._query.substitute({PROMPT: clip.caption})
        answer = self._chat.about_video(frames, question, NEW_TOKENS, options, self._digits)
        found = self._found(answer)
        if not found:
            text = self._chat.text(answer.ids)
            raise ValueError(
                f"the answer of {counted(len(answer.ids), 'token')} holds no score: …{text[-80:]}"
            )
        return found

    def _found(self, answer: ChatAnswer) -> dict[str, float]:
        """The scores that an answer holds, by the digits that follow its labels."""
        text = self._chat.text(answer.ids)
        start = text.rfind(END_OF_THOUGHT) + 1  # the whole text where it does not think aloud
        found = {}
        for name, label in _LABELS.items():
            digit = re.compile(rf"{label}[^\n:]*:\s*([1-5])(?!\d)", re.IGNORECASE)
            match = digit.search(text, start)
            if match is None:
                continue
            place = bisect.bisect_right(
                range(len(answer.ids)),
                match.start(1),
                key=lambda tokens: len(self._chat.text(answer.ids[: tokens + 1])),
            )
            if answer.ids[place] in self._digits:
                found[name] = _graded(answer.watched[place])
        return found


def _graded(logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """The likeliest grade times its share of the probability of all grades."""
    shares = np.exp((logits - logits.max()).astype(np.float64) / TEMPERATURE)
    shares /= shares.sum()
    best = int(shares.argmax())
    return float(GRADES[best] * shares[best])


def _sampled(frames: Frames, fps: float) -> Frames:
    """The frames that the model sees."""
    there = len(frames)
    most = min(MOST_FRAMES, there)
    wanted = min(max(there / fps * FRAMES_PER_SECOND, LEAST_FRAMES), most)
    count = math.floor(wanted / FRAMES_AT_ONCE) * FRAMES_AT_ONCE
    if not count:
        raise ValueError(f"the clip has {there} frame; the model reads at least {FRAMES_AT_ONCE}")
    return frames[np.linspace(0, there - 1, count).round().astype(int)]


def _read_query(path: Path, flag: str) -> Template:
    try:
        query = Template(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{flag}: cannot read {path}: {message_of(error)}") from error
    if not query.is_valid() or query.get_identifiers() != [PROMPT]:
        raise UserError(
            f"{flag}: {path} should hold ${PROMPT}, for the clip's prompt, and no other $"
        )
    return query
