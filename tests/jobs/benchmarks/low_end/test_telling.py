"""What tells the worst clips is judged on clips that it was not fitted on."""

from __future__ import annotations

import numpy as np

from jobs.benchmarks.low_end.telling import judged, leave_one_out, predictors

CAPTIONS = [
    f"a {colour} {shape} moving {way}"
    for colour in ("red", "green", "blue")
    for shape in ("circle", "square", "triangle")
    for way in ("left", "right", "up", "down")
]


def test_what_tells_is_found_and_what_does_not_is_not() -> None:
    random = np.random.default_rng(5)
    misses = np.exp(random.normal(size=(len(CAPTIONS), 6)))
    noise = random.normal(size=len(CAPTIONS))
    by_first = predictors(
        CAPTIONS, misses.tolist(), (50 - 5 * np.log(misses[:, 0]) + noise).tolist()
    )
    assert by_first["forecasts 1 to 1"]["explained"] > 0.8
    assert by_first["forecasts 1 to 1"]["caught"] == 1.0
    assert by_first["words of the caption"]["explained"] < 0.2
    is_red = np.array([caption.startswith("a red") for caption in CAPTIONS])
    by_word = predictors(CAPTIONS, misses.tolist(), (50 - 9.0 * is_red + noise).tolist())
    assert by_word["words of the caption"]["explained"] > 0.8
    assert by_word["forecasts 1 to 6"]["explained"] < 0.2


def test_a_clip_is_foretold_without_itself() -> None:
    """With one clip changed, what is foretold for it stays."""
    random = np.random.default_rng(1)
    facts, wanted = random.normal(size=(12, 2)), random.normal(size=12)
    other = wanted.copy()
    other[4] += 100
    assert leave_one_out(facts, other)[4] == leave_one_out(facts, wanted)[4]


def test_the_mean_explains_nothing() -> None:
    wanted = np.arange(30.0)
    assert judged(np.full(30, wanted.mean()), wanted)["explained"] == 0.0
    assert judged(wanted, wanted) == {"explained": 1.0, "caught": 1.0}
    assert judged(-wanted, wanted)["caught"] == 0.0
