from __future__ import annotations

import pytest

from sencache import PRESETS


@pytest.mark.parametrize(
    ("name", "epsilon", "max_reuse"),
    [
        ("wan2.1-slow", 0.1, 2),
        ("wan2.1-fast", 0.2, 3),
        ("cogvideox-slow", 0.6, 2),
        ("cogvideox-fast", 0.6, 3),
        ("ltx-slow", 0.5, 2),
        ("ltx-fast", 0.5, 3),
    ],
)
def test_the_papers_table(name: str, epsilon: float, max_reuse: int) -> None:
    preset = PRESETS[name]
    assert (preset.policy, preset.reuse_object) == ("paper", "output")
    assert (preset.epsilon, preset.max_reuse) == (epsilon, max_reuse)
    assert (preset.strict_epsilon, preset.strict_fraction) == (0.01, 0.2)


@pytest.mark.parametrize(
    ("name", "epsilon", "strict", "max_reuse", "final"),
    [
        ("official-wan", 0.07, 0.005, 10, 0),
        ("official-wan-readme", 2.0, 0.045, 3, 0),
        ("official-cogvideox", 0.07, 0.005, 10, 1),
        ("official-ltx", 0.7, 0.01, 4, 1),
    ],
)
def test_the_public_codes_defaults(
    name: str, epsilon: float, strict: float, max_reuse: int, final: int
) -> None:
    preset = PRESETS[name]
    assert (preset.policy, preset.reuse_object) == ("official", "residual")
    assert (preset.epsilon, preset.strict_epsilon) == (epsilon, strict)
    assert (preset.max_reuse, preset.final_computed) == (max_reuse, final)
