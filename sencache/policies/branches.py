"""The policy of each branch that decides for itself, from settings and profile.

Knows which profile speaks for which branch and when one does not fit the run; verdicts are
`sencache.policies.sensitivity`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

from sencache.config import SenCacheConfig
from sencache.hook.call import Call
from sencache.hook.trajectory import CallPosition
from sencache.policies.rule import Curve, SensitivityRule
from sencache.profiles.metadata import Branch
from sencache.profiles.official import OFFICIAL_SETTINGS, OfficialProfile
from sencache.profiles.profile import ProfileWarning, SensitivityProfile

# Only matters without a profile, where tau is read but decides nothing.
DEFAULT_TRAIN_TIMESTEPS = 1000

AnyProfile = SensitivityProfile | OfficialProfile


class BranchPolicies(Mapping[Branch, SensitivityRule]):
    """Policies by deciding branch; none before the first call.

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
        self.num_train_timesteps, self._calls_per_step = DEFAULT_TRAIN_TIMESTEPS, 1
        if isinstance(profile, OfficialProfile):
            self.num_train_timesteps = profile.num_train_timesteps
            self._calls_per_step = OFFICIAL_SETTINGS[profile.family].calls_per_step
        elif profile is not None:
            self.num_train_timesteps = profile.metadata.num_train_timesteps
            for branch in self._deciding:
                profile.curve(branch)  # said now, not in the first run
        self._policies: dict[Branch, SensitivityRule] = {}
        self._elements = 0
        self._compared: set[Branch] = set()

    def __getitem__(self, branch: Branch) -> SensitivityRule:
        return self._policies[branch]

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def prepare(self, call: Call, moment: CallPosition) -> None:
        """Get ready for the rows of a call, and warn once if the profile was measured otherwise.

        Pipelines publish their steps but not their guidance scale; that there is guidance shows.
        """
        elements = call.latents[0].numel()
        if elements != self._elements:
            self._elements = elements
            self._policies = {
                branch: SensitivityRule(
                    self._config, self._curve(branch, elements), self._calls_per_step
                )
                for branch in self._deciding
            }
        new = set(moment.branches) - self._compared
        if (
            not new
            or not self._config.may_reuse
            or not isinstance(self._profile, SensitivityProfile)
        ):
            return
        if not self._compared:
            self._profile.check(num_inference_steps=moment.num_steps)
        self._compared |= new
        if "uncond" in new and "uncond" not in self._profile.branches:
            warnings.warn(
                "profile was measured without guidance but the run has it; "
                "the same epsilon may reuse another number of steps",
                ProfileWarning,
                stacklevel=3,
            )

    def _curve(self, branch: Branch, elements: int) -> Curve | None:
        if isinstance(self._profile, OfficialProfile):
            return self._profile.curve(branch, elements)
        return self._profile.curve(branch) if self._profile else None
