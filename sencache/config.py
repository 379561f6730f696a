"""What a user may set: the caching policy and its parameters."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from sencache.schedules.budget import planner_version

if TYPE_CHECKING:
    from sencache.profiles.official import OfficialProfile
    from sencache.profiles.profile import SensitivityProfile

PolicyName = Literal["none", "paper", "official", "planned"]
ReuseObject = Literal["output", "residual"]
UncondVerdict = Literal["follow", "own"]

DEFAULT_MAX_ERROR = 0.01
"""``max_error`` of planned runs that set neither it nor a budget; quality ``balanced``."""

_COMPARE = {"ge": operator.ge, "gt": operator.gt, "le": operator.le}


def _finite(words: str, **bounds: int) -> dict[str, Any]:
    """Metadata of a field that holds a finite number: its bounds, and both in words."""
    return {"bounds": bounds, "type": (int, float), "words": words}


def _whole(least: int, hint: str) -> dict[str, Any]:
    """Metadata of a field that holds a whole number."""
    words = f"a whole number >= {least} ({hint})"
    return {"bounds": {"ge": least}, "type": int, "words": words}


@dataclass(frozen=True)
class SenCacheConfig:
    """Settings of the cache, validated on construction.

    The rule is SenCache's (arXiv 2602.24208): with ``r`` the row's last computed step, the score

        S = a_x(r) * rms(x - x_r) + a_t(r) * |tau - tau_r|

    predicts the rms change of the network's output since ``r``; the step is reused iff
    ``S <= epsilon`` and fewer than ``max_reuse`` reuses came before it in a row. The first step of
    a run is always computed, and so are the last ``final_computed``. Settings that the paper and
    its code were published with are in :data:`sencache.PRESETS`.

    Attributes:
        policy: ``"paper"`` for the rule above; ``"official"`` for the decisions of the authors'
            public code, which takes an :class:`~sencache.OfficialProfile` and differs from the
            paper (:mod:`sencache.policies.official` lists how); ``"planned"`` plans the whole run
            (:mod:`sencache.schedules.planner`): it computes as few steps as ``max_error`` allows,
            or exactly ``budget`` of the steps, and forecasts the others; ``"none"`` computes every
            step and only keeps statistics, for uncached control runs.
        epsilon: Largest predicted rms change that is reused, in units of the network's output.
            0 computes every step; the clip is then bit-identical to one made without the cache.
        max_reuse: The paper's ``n``: most reuses in a row.
        strict_epsilon: Stricter threshold of the first steps, which decide the layout of the clip.
            Never looser than ``epsilon``: the smaller of the two applies (not under
            ``"official"``, whose code uses it as it is).
        strict_fraction: Share of the steps, from the first, that are under ``strict_epsilon``;
            rounded to whole steps, a half to the even number.
        max_error: Under ``"planned"``, the largest error of the final latents that the profile may
            predict: their rms error divided by their rms. The plan computes the fewest steps that
            keep it, all steps if no plan does, and all steps of a run of
            :data:`~sencache.schedules.budget.FEW_STEPS` or fewer. 0 computes every step. None is
            :data:`DEFAULT_MAX_ERROR` if there is no budget either.
        budget: Under ``"planned"``, the share of the steps to compute, in (0, 1]; rounded to whole
            steps, at least 2. Replaces ``max_error``; only one of them can be set. With either,
            NFE, cost and latency are known before the run.
        order: Under ``"planned"``, order of the forecast: 0 holds the last output, 1 is linear
            (one more output to keep), 2 quadratic.
        repair: Under ``"planned"``, whether a computed step undoes the errors of the forecasts
            before it.
        gate: Under ``"planned"``, how many more steps a hard row computes; every other row
            computes one less, so the mean NFE is the budget where one row in ``gate + 1`` is
            hard. Hard rows are found at the end of the steps that all rows share
            (:mod:`sencache.policies.gated`), by one transfer from the device. 0: all rows follow
            the same cache schedule. Needs a budget.
        gate_ratio: A row is hard if its forecast error is more than this multiple of the error that
            the profile expects. `benchmark.py quality` finds the ratio for a budget on calibration
            clips, as the arm ``planned-gated``.
        final_computed: Steps at the end of a run that are always computed.
        correct: Feed the measured error back: every computed step shows the true change for its S,
            and the row's later scores are multiplied by the ratio of the two, averaged with
            exponential weights. A profile of other prompts or of a related model then still gives
            the intended error.
        reuse: What a reused step takes from the last computed one. ``"output"``: the network's
            output, as in the paper. ``"residual"``: what its blocks added to the tokens, as in the
            authors' code; embeddings and head run again, for 12 to 40 times the memory.
            None is ``"residual"`` under ``"official"``, else ``"output"``.
        row_buckets: Batch sizes to which network calls are filled up, rising, such as
            (1, 2, 4, 8): few shapes, for CUDA graphs and compiled code. The rows with the highest
            scores fill a call up, so a sample then depends on its neighbours. In samples; a call
            that is larger than the largest size is not filled up. Empty: off.
        guidance: Whether calls whose context holds both branches of guidance in one batch
            (CogVideoX, LTX, Mochi) do hold both. None: they do if the two halves of the first
            latents are equal, a comparison that costs one synchronisation per run.
        num_inference_steps: Steps of a run. Only needed where neither the pipeline publishes it
            through diffusers' ``cache_context``, which takes precedence, nor the scheduler is
            known (:func:`~sencache.apply_sencache` got a transformer, not a pipeline). Steps that
            are not published are counted. So without a scheduler the last step of a run that does
            not start with the first step (strength < 1, the second network of Wan 2.2) is not
            known: such a run reuses nothing, and a warning says so.
        uncond_verdict: ``"follow"``: the unconditional branch computes and reuses when the
            conditional one does, so that the errors of the two partly cancel in the guidance.
            ``"own"``: each branch decides by its own score.

    Raises:
        ValueError: A field has a value of no use; the message names the field and the remedy.
    """

    policy: PolicyName = "paper"
    epsilon: float = field(default=0.1, metadata=_finite("a finite number >= 0", ge=0))
    max_reuse: int = field(
        default=3, metadata=_whole(1, 'policy="none" or epsilon=0 turn reuse off')
    )
    strict_epsilon: float = field(default=0.01, metadata=_finite("a finite number >= 0", ge=0))
    strict_fraction: float = field(
        default=0.2, metadata=_finite("a number from 0 to 1", ge=0, le=1)
    )
    max_error: float | None = field(
        default=None, metadata=_finite("a finite number >= 0, or None", ge=0)
    )
    budget: float | None = field(
        default=None, metadata=_finite("a number above 0, up to 1, or None", gt=0, le=1)
    )
    order: int = field(default=1, metadata=_whole(0, "0 holds, 1 is linear"))
    repair: bool = True
    gate: int = field(default=0, metadata=_whole(0, "0 lets all rows follow the same plan"))
    gate_ratio: float = field(default=0.25, metadata=_finite("a finite number >= 0", ge=0))
    final_computed: int = field(default=1, metadata=_whole(0, "0 forces no step"))
    correct: bool = False
    reuse: ReuseObject | None = None
    row_buckets: tuple[int, ...] = ()
    guidance: bool | None = None
    num_inference_steps: int | None = None
    uncond_verdict: UncondVerdict = "follow"

    def __post_init__(self) -> None:
        _require_choice("policy", self.policy, get_args(PolicyName))
        _require_choice("uncond_verdict", self.uncond_verdict, get_args(UncondVerdict))
        _require_choice("reuse", self.reuse, (None, *get_args(ReuseObject)))
        _require_choice("correct", self.correct, (False, True))
        _require_choice("guidance", self.guidance, (None, False, True))
        _require_choice("repair", self.repair, (False, True))
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata and not (value is None and each.default is None):
                _require_number(each.name, value, each.metadata)
        if self.budget is not None and self.max_error is not None:
            raise ValueError(
                f"SenCacheConfig.budget is {self.budget} and max_error is {self.max_error}; a plan "
                "has an exact budget or keeps an error: set one of them"
            )
        if self.policy == "planned" and self.gate and self.budget is None:
            raise ValueError(
                f"SenCacheConfig.gate is {self.gate} but there is no budget; a gate shares an "
                "exact budget among rows: set budget too"
            )
        if self.policy == "planned" and self.reuse == "residual":
            raise ValueError(
                "SenCacheConfig.reuse is 'residual' under policy='planned'; plans forecast the "
                "network's output, so it must be 'output' or None"
            )
        buckets = self.row_buckets
        if not isinstance(buckets, tuple) or list(buckets) != sorted(set(buckets)):
            raise ValueError(
                f"SenCacheConfig.row_buckets is {buckets!r}; it must be a tuple of rising sizes"
            )
        for bucket in buckets:
            _require_number(
                "row_buckets", bucket, _whole(1, "the empty tuple turns filling up off")
            )
        if self.num_inference_steps is not None:
            _require_number(
                "num_inference_steps",
                self.num_inference_steps,
                _whole(1, "None takes it from the pipeline"),
            )

    @property
    def may_reuse(self) -> bool:
        """Whether any step can be reused under these settings."""
        if self.policy == "planned":
            return self.budget < 1.0 if self.budget is not None else self.error_limit > 0.0
        return self.policy != "none" and self.epsilon > 0.0

    @property
    def error_limit(self) -> float:
        """:attr:`max_error` with its default filled in; infinite where a budget decides."""
        if self.budget is not None:
            return math.inf
        return DEFAULT_MAX_ERROR if self.max_error is None else float(self.max_error)

    @property
    def reuse_object(self) -> ReuseObject:
        """What a reused step takes: :attr:`reuse`, with its default filled in."""
        return self.reuse or ("residual" if self.policy == "official" else "output")

    def identity(self, profile: SensitivityProfile | OfficialProfile | None) -> dict[str, Any]:
        """The part of the settings that decides pixels, for use in a sample's content id.

        Settings that decide alike in every run give the same dict: without any reuse it is
        ``{"policy": "none"}`` whatever the other fields say, a strict phase without effect is
        normalised, and an option that is off is left out. Different dicts may still give the same
        clip where a limit is not reached. The number of steps and the guidance belong to the
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
        if self.policy == "planned":
            size = (
                {"max_error": self.error_limit}
                if self.budget is None
                else {"budget": float(self.budget)}
            )
            planned = {
                "policy": self.policy,
                **size,
                "order": self.order,
                "repair": self.repair,
                "planner": planner_version(self.budget),
                "profile": profile.hash,
            }
            gate = {"gate": self.gate, "gate_ratio": float(self.gate_ratio)}
            return planned | (gate if self.gate else {})
        strict = self.strict_fraction > 0.0 and (
            self.strict_epsilon < self.epsilon or self.policy == "official"
        )
        identity: dict[str, Any] = {
            "policy": self.policy,
            "epsilon": float(self.epsilon),
            "max_reuse": self.max_reuse,
            "strict_epsilon": float(self.strict_epsilon if strict else self.epsilon),
            "strict_fraction": float(self.strict_fraction if strict else 0.0),
            "uncond_verdict": self.uncond_verdict,
            "profile": profile.hash,
        }
        options = {
            "final_computed": (self.final_computed, 1),
            "correct": (self.correct, False),
            "reuse": (self.reuse_object, "output"),
            "row_buckets": (list(self.row_buckets), []),
        }
        return identity | {name: value for name, (value, off) in options.items() if value != off}


def missing_profile(config: SenCacheConfig) -> str:
    """The error text for a caching policy that was given no profile."""
    if config.policy == "official":
        return (
            "policy='official' needs the authors' sensitivity file of the model: "
            "OfficialProfile.from_npz reads it"
        )
    limit: dict[str, float | None] = {"epsilon": config.epsilon}
    if config.policy == "planned":
        limit = {"budget": config.budget} if config.budget else {"max_error": config.error_limit}
    ((name, value),) = limit.items()
    return (
        f"policy={config.policy!r} with {name}={value} needs a SensitivityProfile "
        'of the model: measure one with sencache.calibrate, or use policy="none"'
    )


def _require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # Types must match too: True is not 1.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"SenCacheConfig.{name} is {value!r}; it must be one of {known}")


def _require_number(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    is_number = isinstance(value, rule["type"]) and not isinstance(value, bool)
    bounds = rule["bounds"].items()
    if not is_number or value == math.inf or not all(_COMPARE[op](value, at) for op, at in bounds):
        raise ValueError(f"SenCacheConfig.{name} is {value!r}; it must be {rule['words']}")
