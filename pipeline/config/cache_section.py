"""The `cache` section of a run: a quality, a budget or a threshold, never two of them.

The section takes its defaults and ranges from the library's `SenCacheConfig` and makes one of those
for the run. It adds what only a run has: a quality, the place of a profile, and settings that are
unset because another policy reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

import sencache
from pipeline.config.sections import ConfigPart
from sencache.config import DEFAULT_MAX_ERROR, SenCacheConfig, UncondVerdict
from sencache.schedules.budget import FEW_STEPS, check_room, computed_steps, least_computed

CONFLICT = "settings_conflict"
"""Type of a validation error about several settings; its `ctx` holds their `names` and `why`."""

POLICY_OF = {"budget": "planned", "max_error": "planned", "epsilon": "paper"}
"""The policy that reads a setting. The setting alone selects that policy."""

READ_BY_PAPER = ("max_reuse", "strict_epsilon", "strict_fraction", "correct", "uncond_verdict")
"""Settings that only policy `paper` reads; one of them alone selects it."""

DEFAULT_QUALITY = "balanced"
"""Of a run that says nothing of its cache."""

DEFAULT_OF = {
    "planned": {"max_error": DEFAULT_MAX_ERROR},
    "paper": {"epsilon": SenCacheConfig.epsilon},
}
"""What a policy reads where none of its settings is given."""


def _setting(name: str, description: str, **narrower: Any) -> Any:
    """A field with the default and the range that the library gives it.

    Args:
        name: Of the field of `SenCacheConfig`.
        description: For the help.
        narrower: Arguments of `Field` that differ for a run.
    """
    field = SenCacheConfig.__dataclass_fields__[name]
    arguments = {"default": field.default, **field.metadata.get("bounds", {}), **narrower}
    return Field(description=description, **arguments)


class CacheConfig(ConfigPart):
    """Which sampler steps are computed: set a quality, a budget or an epsilon, not two of them."""

    quality: Literal["", "lossless", "high", "balanced", "fast"] = Field(
        default="",
        description=f"the one knob: sets policy and error (default {DEFAULT_QUALITY})",
    )
    policy: Literal["none", "paper", "planned"] = _setting(
        "policy",
        "none: no cache; paper: threshold; planned: error or budget; a setting of paper selects it",
        default="planned",
    )
    budget: float | None = _setting(
        "budget",
        "planned: share of the steps that are computed, in place of an error",
    )
    max_error: float | None = _setting(
        "max_error",
        "planned: largest predicted relative error of the final latents "
        f"(default {DEFAULT_MAX_ERROR})",
    )
    order: int = _setting("order", "planned: order of forecasts; 0 holds the last output", le=3)
    repair: bool = _setting("repair", "make up for forecasts at the computed steps of a plan")
    gate: int = _setting("gate", "planned: extra steps of a hard clip; all others get one less")
    gate_ratio: float = _setting(
        "gate_ratio", "planned: a clip is hard above so many times the expected error"
    )
    epsilon: float | None = _setting(
        "epsilon",
        "paper: largest predicted change of a reused step "
        f"(default {SenCacheConfig.epsilon}, with --cache.policy paper)",
        default=None,
    )
    max_reuse: int = _setting("max_reuse", "paper: most reused steps in a row")
    strict_epsilon: float = _setting("strict_epsilon", "paper: epsilon of the first steps")
    strict_fraction: float = _setting(
        "strict_fraction", "paper: share of the steps that count as first"
    )
    correct: bool = _setting("correct", "paper: correct predictions by each clip's own changes")
    uncond_verdict: UncondVerdict = _setting(
        "uncond_verdict", "paper: unconditional branch follows the other or decides by itself"
    )
    profile: str = Field(
        default="",
        description="sensitivity profile file, or own or prior; empty: the shipped one, else the "
        "run's own, else the prior",
    )
    measure_clips: int | None = Field(
        default=None,
        ge=0,
        le=16,
        description="clips that a run without a profile makes uncached first, to measure one "
        "(default: one in 25, from 4 to 16); 0: plan with the prior",
    )

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        return settle(given) if isinstance(given, dict) else given

    def to_sencache(self) -> SenCacheConfig:
        """Return the library's settings for this section."""
        # Unset fields belong to another policy, which then reads them as the library's defaults.
        return SenCacheConfig(
            **self.model_dump(exclude={"quality", "profile", "measure_clips"}, exclude_none=True)
        )

    def used(self) -> dict[str, Any]:
        """What the section comes to: the quality that means it, policy and its first setting.

        A quality is named also where the default was taken; "" where no quality has all of these
        settings.
        """
        settings = self.to_sencache()
        same = [name for name, meant in sencache.QUALITY.items() if meant == settings]
        chosen = {name: getattr(self, name) for name in POLICY_OF}
        given = {name: value for name, value in chosen.items() if value is not None}
        return {"quality": "".join(same), "policy": self.policy, **given}

    def planned_nfe(self, steps: int) -> tuple[int, int]:
        """Return the fewest and the most steps that a planned run of so many steps computes.

        With a budget the two differ only where it is very small and no plan computes so few steps.
        The least number then depends on whether and where the pipeline changes networks. With a
        largest error, the profile and the sampler decide.
        """
        if steps < 3:  # nothing to plan
            return steps, steps
        cuts = ((), *((cut,) for cut in range(1, steps - 1)))
        least = [least_computed(steps, each) for each in cuts]
        budget = self.to_sencache().budget
        if budget is None:
            return (steps if steps <= FEW_STEPS else least[0]), steps
        computed = computed_steps(budget, steps)
        return max(computed, least[0]), max(computed, *least)

    def check_gate(self, steps: int) -> None:
        """Make sure that the budget of a planned run leaves room for its gate, if it has one.

        Raises:
            ValueError: It does not; the message says which numbers would do.
        """
        budget = self.to_sencache().budget
        if self.gate and budget is not None and budget < 1.0:
            check_room(self.gate, computed_steps(budget, steps), steps)


_EITHER = {
    frozenset({"budget", "epsilon"}): "a run has an exact budget or a threshold",
    frozenset({"max_error", "epsilon"}): "a run has a largest error or a threshold",
    frozenset({"budget", "max_error"}): "a run has an exact budget or a largest error",
}


def settle(given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a quality by what it stands for, choose the policy, and fill in its own setting.

    Works on settings as they are given, before their types are checked. Settling a result again
    does not change it, so a stored configuration reads back as it was, even by a version in which
    a quality stands for other numbers.

    Raises:
        PydanticCustomError: Settings that contradict each other, or a policy of the library that
            a run cannot have.
    """
    settled = dict(given)
    quality = settled.get("quality")
    if isinstance(quality, str) and quality:
        for name in ("policy", *POLICY_OF):
            if _is_given(settled, name):
                _refuse(
                    ["quality", name], "cannot both be given: a quality is a policy and its error"
                )
        settled |= _meaning(quality)
    chosen = [name for name in POLICY_OF if _is_given(settled, name)]
    if not chosen and not quality and not _is_given(settled, "policy"):
        of_paper = any(name in settled for name in READ_BY_PAPER)
        settled |= {"policy": "paper"} if of_paper else _meaning(DEFAULT_QUALITY)
        chosen = [name for name in POLICY_OF if _is_given(settled, name)]
    if len(chosen) > 1:
        _refuse(chosen[:2], f"cannot both be given: {_EITHER[frozenset(chosen[:2])]}")
    selected = [POLICY_OF[name] for name in chosen]
    policy = settled.setdefault("policy", selected[0] if selected else SenCacheConfig.policy)
    if policy == "official":
        _refuse(
            ["policy"],
            "cannot be official here: that needs the authors' own sensitivity files, which only "
            "the library reads (sencache.OfficialProfile); use paper or planned",
        )
    for name, reader in POLICY_OF.items():
        # Policy none goes with everything: it is how a cached run is made without its cache.
        if _is_given(settled, name) and policy in POLICY_OF.values() and policy != reader:
            _refuse(["policy", name], f"do not go together: only policy {reader} reads {name}")
    settled |= {} if chosen else DEFAULT_OF.get(policy, {})
    if settled.get("gate") and policy == "planned" and not _is_given(settled, "budget"):
        _refuse(["gate"], "needs cache.budget: it shares an exact budget among the clips")
    return settled


def without_overridden(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a lower source that those of a higher source do not override.

    `--cache.budget 0.4` over a file with a quality or an epsilon selects the budget. What would
    contradict it in the file is then overridden and not a mistake.
    """
    overridden: set[str] = set()
    if any(_is_given(above, name) for name in ("quality", "budget", "max_error")):
        overridden = {"quality", "policy", *POLICY_OF}
    elif _is_given(above, "epsilon"):
        overridden = {"quality", "budget", "max_error"}
        overridden |= {"policy"} if below.get("policy") == "planned" else set()
    elif _is_given(above, "policy"):
        overridden = {"quality"}
        overridden |= {name for name, policy in POLICY_OF.items() if policy != above["policy"]}
    return {name: value for name, value in below.items() if name not in overridden}


def _meaning(quality: str) -> dict[str, Any]:
    """Policy and error of a quality; nothing for an unknown one, which its field refuses."""
    meant = sencache.QUALITY.get(quality)  # loads numpy, which a run without a quality may not need
    if meant is None:
        return {}
    policy = {"quality": "", "policy": meant.policy}
    return policy | ({"max_error": meant.max_error} if meant.policy == "planned" else {})


def _is_given(settings: Mapping[str, Any], name: str) -> bool:
    return settings.get(name) not in (None, "")


def _refuse(names: list[str], why: str) -> NoReturn:
    raise PydanticCustomError(CONFLICT, "{names} {why}", {"names": names, "why": why})
