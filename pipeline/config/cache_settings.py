"""How a run caches, as people say it: one quality, or a budget, or a threshold; never two of them.

Works on settings as they are given, before their types are checked. Knows neither files nor flags,
only that of two sources one goes before the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

CONFLICT = "settings_conflict"
"""Type of a validation error that is about several settings; `names` and `why` are in its `ctx`."""

POLICY_OF = {"budget": "planned", "epsilon": "paper"}
"""The policy that reads a setting, and that the setting alone asks for."""
DEFAULT_BUDGET = 0.34
DEFAULT_EPSILON = 0.1
_DEFAULTS = {"planned": {"budget": DEFAULT_BUDGET}, "paper": {"epsilon": DEFAULT_EPSILON}}


def settle(given: Mapping[str, Any]) -> dict[str, Any]:
    """Spell a quality out, choose the policy that the settings ask for, and fill in its own.

    What comes out goes in again unchanged, so a stored configuration reads back as it was, even
    by a version in which a quality stands for other numbers.

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
                    ["quality", name], "cannot both be given: a quality is a policy and its budget"
                )
        return settled | _spelt_out(quality)
    if all(_is_given(settled, name) for name in POLICY_OF):
        _refuse(list(POLICY_OF), "cannot both be given: a run has an exact budget or a threshold")
    asked = [policy for name, policy in POLICY_OF.items() if _is_given(settled, name)]
    policy = settled.setdefault("policy", asked[0] if asked else "paper")
    if policy == "official":
        _refuse(
            ["policy"],
            "cannot be official here: that needs the authors' own sensitivity files, which only "
            "the library reads (sencache.OfficialProfile); use paper or planned",
        )
    for name, reader in POLICY_OF.items():
        # Policy none goes with everything: it is how a cached run is made without its cache.
        if _is_given(settled, name) and policy in _DEFAULTS and policy != reader:
            _refuse(["policy", name], f"do not go together: only policy {reader} reads {name}")
    if isinstance(policy, str):
        for name, value in _DEFAULTS.get(policy, {}).items():
            if not _is_given(settled, name):
                settled[name] = value
    return settled


def without_displaced(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a lower source that those of a higher one leave standing.

    `--cache.budget 0.4` over a file with a quality or an epsilon asks for the budget, so what would
    contradict it in the file is not a mistake but overridden.
    """
    displaced: set[str] = set()
    if _is_given(above, "quality") or _is_given(above, "budget"):
        displaced = {"quality", "policy", "budget", "epsilon"}
    elif _is_given(above, "epsilon"):
        displaced = {"quality", "budget"}
        displaced |= {"policy"} if below.get("policy") == "planned" else set()
    elif _is_given(above, "policy"):
        displaced = {"quality"}
        displaced |= {name for name, policy in POLICY_OF.items() if policy != above["policy"]}
    return {name: value for name, value in below.items() if name not in displaced}


def _spelt_out(quality: str) -> dict[str, Any]:
    """Policy and budget of a quality; nothing for an unknown one: its field refuses it."""
    from sencache import QUALITY  # numpy loads only for runs that will need it

    meant = QUALITY.get(quality)
    if meant is None:
        return {}
    policy = {"quality": "", "policy": meant.policy}
    return policy | ({"budget": meant.budget} if meant.policy == "planned" else {})


def _is_given(settings: Mapping[str, Any], name: str) -> bool:
    return settings.get(name) not in (None, "")


def _refuse(names: list[str], why: str) -> NoReturn:
    raise PydanticCustomError(CONFLICT, "{names} {why}", {"names": names, "why": why})
