"""What drafts cost on real models follows from what was measured on a GPU."""

from __future__ import annotations

import re

from tests.docs.documents import ROOT

STEPS, DRAFTS, DRAFT = 50, 4, 8


def measured(part: str) -> float:
    """The seconds of a part in docs/gpu.md."""
    found = re.search(rf"^\| {re.escape(part)} \| ([\d.]+) \|", text("gpu"), re.MULTILINE)
    assert found
    return float(found[1])


def share(decode: float, finished: int, seen: float) -> float:
    """Time of four drafts and a clip over that of an uncached clip; unit is an evaluation.

    Args:
        decode: Decoding a clip.
        finished: Evaluations of the clip.
        seen: Share of a draft's frames that are decoded.
    """
    drafts = DRAFTS * (DRAFT + seen * decode)
    return (drafts + finished + decode) / (STEPS + decode)


def text(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text()


def test_shares_of_an_uncached_clip_are_those_of_measured_steps_and_decodes() -> None:
    parts = {
        "Wan 2.1 14B, 720p": (
            2 * measured("one branch of Wan 14B at 720p, first call"),
            measured("decode, 720p, 81 frames, float32"),
        ),
        "Wan 2.1 1.3B, 480p": (
            measured("one step, 480p, both branches"),
            measured("decode, 480p, 81 frames, float32"),
        ),
    }
    for model, (step_s, decode_s) in parts.items():
        (line,) = (each for each in text("selection").splitlines() if f"| {model} |" in each)
        shown = [float(cell) for cell in line.strip("|").split("|")[1:]]
        decode = decode_s / step_s
        expected = [decode, *(share(decode, *each) for each in ((17, 1.0), (13, 1.0), (13, 0.5)))]
        assert all(abs(a - b) < 0.006 for a, b in zip(shown, expected, strict=True)), model
