from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from sencache import SenCacheConfig
from tests.sencache.support.toys import make_profile


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("policy", "fast", "'paper'"),
        ("uncond_verdict", "both", "'follow'"),
        ("epsilon", -0.1, "finite number >= 0"),
        ("epsilon", math.nan, "finite number >= 0"),
        ("epsilon", math.inf, "finite number >= 0"),
        ("epsilon", "0.1", "finite number >= 0"),
        ("epsilon", True, "finite number >= 0"),
        ("strict_epsilon", -1, "finite number >= 0"),
        ("strict_fraction", 1.5, "from 0 to 1"),
        ("max_reuse", 0, "whole number >= 1"),
        ("max_reuse", 2.0, "whole number >= 1"),
        ("num_inference_steps", 0, "whole number >= 1"),
    ],
)
def test_errors_name_the_field_the_value_and_the_remedy(field: str, value: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=f"SenCacheConfig.{field} is") as caught:
        SenCacheConfig(**{field: value})
    message = str(caught.value)
    assert repr(value) in message
    assert hint in message
    assert "\n" not in message


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SenCacheConfig().epsilon = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "config",
    [
        SenCacheConfig(policy="none", epsilon=0.3),
        SenCacheConfig(epsilon=0.0, max_reuse=7),
    ],
)
def test_settings_that_never_reuse_share_one_identity(config: SenCacheConfig) -> None:
    assert not config.may_reuse
    assert config.identity(None) == config.identity(make_profile()) == {"policy": "none"}


def test_identity_holds_all_that_decides_pixels_and_nothing_else() -> None:
    profile = make_profile()
    base = SenCacheConfig()
    assert base.identity(profile)["profile"] == profile.hash
    changed: dict[str, Any] = {
        "epsilon": 0.2,
        "max_reuse": 2,
        "strict_epsilon": 0.02,
        "strict_fraction": 0.3,
        "uncond_verdict": "own",
    }
    for field, value in changed.items():
        other = dataclasses.replace(base, **{field: value})
        assert other.identity(profile) != base.identity(profile), field
    assert base.identity(make_profile(a_x=2.0)) != base.identity(profile)
    with_steps = dataclasses.replace(base, num_inference_steps=50)
    assert with_steps.identity(profile) == base.identity(profile)


def test_a_strict_phase_without_effect_is_not_part_of_the_identity() -> None:
    profile = make_profile()
    plain = SenCacheConfig(epsilon=0.1, strict_fraction=0.0).identity(profile)
    for fraction, strict in ((0.0, 0.03), (0.2, 0.1), (0.5, 0.7)):
        config = SenCacheConfig(epsilon=0.1, strict_fraction=fraction, strict_epsilon=strict)
        assert config.identity(profile) == plain
    assert SenCacheConfig(epsilon=0.1).identity(profile) != plain


def test_identity_without_the_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a SensitivityProfile"):
        SenCacheConfig().identity(None)
