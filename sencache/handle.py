"""What a user holds of an applied cache: its settings, its statistics, and a summary of a call."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sencache.config import SenCacheConfig
from sencache.hook.counting import CountingHook
from sencache.hook.hook import SenCacheHook
from sencache.policies.branch_rules import AnyProfile
from sencache.stats import RunLog, SampleStats
from sencache.summary import CacheSummary

AnyHook = SenCacheHook | CountingHook


@dataclass(frozen=True, repr=False)
class SenCacheHandle:
    """The cache of the networks of one pipeline.

    Attributes:
        config: Its settings.
        profile: The profile it decides with, if any.
        hooks: The networks and their hooks, in the pipeline's order.
        profile_origin: Where the profile comes from, in words: given, a file, or the prior of a
            prediction type; "none" without a profile.
    """

    config: SenCacheConfig
    profile: AnyProfile | None
    hooks: tuple[tuple[torch.nn.Module, AnyHook], ...]
    _log: RunLog = field(repr=False)
    profile_origin: str = "none"

    def __repr__(self) -> str:
        networks = ", ".join(type(network).__name__ for network, _ in self.hooks)
        return (
            f"<SenCacheHandle policy={self.config.policy!r} on {networks}, "
            f"profile: {self._profile_in_words()}>"
        )

    def stats(self) -> list[SampleStats]:
        """What happened in the current or last pipeline call, per sample in batch order.

        Joins all networks that took part. Stays until the next call begins, also after an error;
        empty before the first call. Costs one transfer from the device.
        """
        return self._log.samples()

    def summary(self) -> CacheSummary:
        """The current or last pipeline call in five lines; print it, or let a notebook show it.

        Costs one transfer from the device.
        """
        return CacheSummary(tuple(self.stats()), self.config.policy, self._profile_in_words())

    def reset(self) -> None:
        """Drop all kept outputs, as diffusers does at the end of a pipeline call."""
        for network, hook in self.hooks:
            hook.reset_state(network)

    def _profile_in_words(self) -> str:
        if self.profile is None:
            return self.profile_origin
        return f"{self.profile_origin} ({self.profile.hash})"
