"""What a user may set: the caching policy and its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from sencache.profile import SensitivityProfile

PolicyName = Literal["none", "paper"]
UncondVerdict = Literal["follow", "own"]


@dataclass(frozen=True)
class SenCacheConfig:
    """Settings of the cache, validated on construction.

    The rule is SenCache's (arXiv 2602.24208): with ``r`` the row's last computed step, the score

        S = a_x(r) * rms(x - x_r) + a_t(r) * |tau - tau_r|

    predicts the rms change of the network's output since ``r``; the step is reused iff
    ``S <= epsilon`` and fewer than ``max_reuse`` reuses came before it in a row. The first and the
    last step of a run are always computed.

    Attributes:
        policy: ``"paper"`` for the rule above; ``"none"`` computes every step and only keeps
            statistics, which is what an uncached control run wants.
        epsilon: Largest predicted rms change that is reused, in units of the network's output.
            0 computes every step; the clip is then bit-identical to one made without the cache.
        max_reuse: The paper's ``n``: most reuses in a row.
        strict_epsilon: Stricter threshold of the first steps, where the layout of the clip is
            decided. Never looser than ``epsilon``: the smaller of the two holds.
        strict_fraction: Share of the steps, from the first, that are under ``strict_epsilon``;
            rounded to whole steps, a half to the even number.
        num_inference_steps: Steps of a run. Only needed for pipelines that do not publish it
            through diffusers' ``cache_context``; what a pipeline publishes goes first.
            Unpublished steps are counted, so a run that starts below the top of the schedule
            (strength < 1, the second network of Wan 2.2) has no known last step: nothing of it
            is reused, and a warning says so.
        uncond_verdict: ``"follow"``: the unconditional branch computes and reuses when the
            conditional one does, so that the errors of the two partly cancel in the guidance.
            ``"own"``: each branch decides by its own score, which costs models that call the
            network once per branch a second device synchronisation a step.

    Raises:
        ValueError: A field has a value of no use; the message names the field and the remedy.
    """

    policy: PolicyName = "paper"
    epsilon: float = 0.1
    max_reuse: int = 3
    strict_epsilon: float = 0.01
    strict_fraction: float = 0.2
    num_inference_steps: int | None = None
    uncond_verdict: UncondVerdict = "follow"

    def __post_init__(self) -> None:
        _require_choice("policy", self.policy, get_args(PolicyName))
        _require_choice("uncond_verdict", self.uncond_verdict, get_args(UncondVerdict))
        for name in ("epsilon", "strict_epsilon"):
            _require_number(name, getattr(self, name), 0.0, math.inf, "a finite number >= 0")
        _require_number("strict_fraction", self.strict_fraction, 0.0, 1.0, "a number from 0 to 1")
        _require_count("max_reuse", self.max_reuse, 'policy="none" or epsilon=0 turn reuse off')
        if self.num_inference_steps is not None:
            _require_count(
                "num_inference_steps", self.num_inference_steps, "None takes it from the pipeline"
            )

    @property
    def may_reuse(self) -> bool:
        """Whether any step can be reused under these settings."""
        return self.policy != "none" and self.epsilon > 0.0

    def identity(self, profile: SensitivityProfile | None) -> dict[str, str | float | int]:
        """What of the cache decides pixels, for use in a sample's content id.

        Settings that decide alike in every run give the same dict: without any reuse it is
        ``{"policy": "none"}`` whatever the other fields say, and a strict phase that is no
        stricter or of no length is left out of account. Other dicts may still make the same clip
        where a limit is not reached. The number of steps is left out because it belongs to the
        sampler's part of an id.

        Args:
            profile: The profile the cache is applied with; may be None if nothing is reused.

        Returns:
            A flat dict of JSON values with a fixed order of keys.

        Raises:
            ValueError: Steps may be reused but no profile is given.
        """
        if not self.may_reuse:
            return {"policy": "none"}
        if profile is None:
            raise ValueError(missing_profile(self))
        strict = self.strict_fraction > 0.0 and self.strict_epsilon < self.epsilon
        return {
            "policy": self.policy,
            "epsilon": float(self.epsilon),
            "max_reuse": self.max_reuse,
            "strict_epsilon": float(self.strict_epsilon if strict else self.epsilon),
            "strict_fraction": float(self.strict_fraction if strict else 0.0),
            "uncond_verdict": self.uncond_verdict,
            "profile": profile.hash,
        }


def missing_profile(config: SenCacheConfig) -> str:
    """The error text for a caching policy that was given no profile."""
    return (
        f"policy={config.policy!r} with epsilon={config.epsilon} needs a SensitivityProfile "
        'of the model: measure one with sencache.calibrate, or use policy="none"'
    )


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"SenCacheConfig.{name} is {value!r}; it must be one of {known}")


def _require_number(name: str, value: object, low: float, high: float, right: str) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= float(value) <= high or math.isinf(float(value)):  # type: ignore[arg-type]
        raise ValueError(f"SenCacheConfig.{name} is {value!r}; it must be {right}")


def _require_count(name: str, value: object, hint: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"SenCacheConfig.{name} is {value!r}; it must be a whole number >= 1 ({hint})"
        )
