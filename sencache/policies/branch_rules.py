"""The rule of each guidance branch that decides for itself, made from settings and profile.

Knows which profile applies to which branch and when one does not fit the run; verdicts are those of
`sencache.policies.sensitivity_rule`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

from sencache.config import SenCacheConfig
from sencache.families.registry import OFFICIAL_SETTINGS
from sencache.hook.call import Call
from sencache.hook.trajectory import CallPosition
from sencache.policies.official import OfficialRule
from sencache.policies.sensitivity_rule import SensitivityRule
from sencache.profiles.metadata import Branch
from sencache.profiles.official import OfficialProfile
from sencache.profiles.profile import ProfileWarning, SensitivityProfile

# Only matters without a profile, where tau is read but decides nothing.
DEFAULT_TRAIN_TIMESTEPS = 1000

AnyProfile = SensitivityProfile | OfficialProfile


class BranchRules(Mapping[Branch, SensitivityRule]):
    """Rules by deciding branch; empty before the first call.

    Attributes:
        num_train_timesteps: What timesteps are divided by to get tau.
    """

    def __init__(self, config: SenCacheConfig, profile: AnyProfile | None) -> None:
        """Take a profile.

        Raises:
            ProfileError: The profile was measured without a branch that is to decide for itself.
        """
        self._config, self._profile = config, profile
        own = config.may_reuse and config.uncond_verdict == "own"
        self._deciding: tuple[Branch, ...] = ("cond", "uncond") if own else ("cond",)
        self.num_train_timesteps = DEFAULT_TRAIN_TIMESTEPS
        if isinstance(profile, OfficialProfile):
            self.num_train_timesteps = profile.num_train_timesteps
        elif profile is not None:
            self.num_train_timesteps = profile.metadata.num_train_timesteps
            for branch in self._deciding:
                profile.curve(branch)  # raises now rather than in the first run
        self._rules: dict[Branch, SensitivityRule] = {}
        self._elements = 0
        self._compared: set[Branch] = set()

    def __getitem__(self, branch: Branch) -> SensitivityRule:
        return self._rules[branch]

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def prepare(self, call: Call, position: CallPosition) -> None:
        """Get ready for the rows of a call, and warn once if the profile was measured otherwise.

        Pipelines publish their steps but not their guidance scale. That a run has guidance shows
        in the branches of its calls.
        """
        elements = call.latents[0].numel()
        if elements != self._elements:
            self._elements = elements
            self._rules = {branch: self._rule(branch, elements) for branch in self._deciding}
        new = set(position.branches) - self._compared
        profile = self._profile
        if not new or not self._config.may_reuse or not isinstance(profile, SensitivityProfile):
            return
        if not self._compared:
            profile.check(num_inference_steps=position.num_steps, once=True)
        self._compared |= new
        if "uncond" in new and "uncond" not in profile.branches:
            warnings.warn(
                "profile was measured without guidance but the run has it; "
                "the same epsilon may reuse another number of steps",
                ProfileWarning,
                stacklevel=3,
            )

    def _rule(self, branch: Branch, elements: int) -> SensitivityRule:
        profile = self._profile
        if isinstance(profile, OfficialProfile):
            curve = profile.curve(branch, elements)
            return OfficialRule(self._config, curve, OFFICIAL_SETTINGS[profile.family])
        return SensitivityRule(self._config, profile.curve(branch) if profile else None)
