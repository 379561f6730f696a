"""The decisions of the authors' public code, in this library's units.

Where that code (``vita-epfl/SenCache``, as of 4bf419b) differs from the paper, by its source:

* Thresholds. Its defaults and its README have other values than the paper, and its epsilon is the
  rms change of the output at the one resolution that its SCALE belongs to. The strict epsilon of
  the first steps applies as it is, also where it is the larger one.
* Comparison. Strict ``<`` where the paper reuses at equality. The cap is the paper's: a reuse
  needs fewer than n in a row before it, and a computed step starts the count again.
* Sensitivities. Taken at r and kept, as in the paper, but from the nearest stored timestep; of two
  equally near ones, from the first.
* Distances. Against x_r and t_r, as in the paper, never summed over steps; absolute norms, in
  the dtype of the latents, so bfloat16 rounds them to 8 bits.
* First and last steps. Wan forces none: the first step runs only because it has no reference, and
  the last may be reused. CogVideoX forces one at each end; LTX two per cent at each end, which is
  none for up to 25 steps.
* Strict phase. A fifth, rounded half to even, of the *calls*: two per step in Wan, so a step of
  which only the first call lies inside is strict.
* What is reused. Not the output but the sum of what the blocks added to the tokens; embeddings
  and head run again. For LTX that sum includes the output norm and its modulation, which are
  therefore not renewed: only the last projection is (:mod:`sencache.reuse.block_stack`).
* Rows and branches. Row 0 decides for the whole batch, which under guidance is the negative
  prompt's row of CogVideoX and LTX. Wan's unconditional call follows the conditional one and
  keeps its own residual. All sensitivities are of the conditional branch.
* Trajectories. The code tells them apart by counting calls, so a run that is aborted shifts the
  next one; a rising time is no sign of a new one.

This module takes over thresholds, comparison, strict phase and (with :mod:`sencache.families` and
:mod:`sencache.profiles.official`) sensitivities and residual. Every row decides for itself, as
everywhere in this library.
"""

from __future__ import annotations

import torch

from sencache.config import SenCacheConfig
from sencache.families.base import OfficialSettings
from sencache.policies.sensitivity_rule import SensitivityRule
from sencache.profiles.interpolation import Curve


class OfficialRule(SensitivityRule):
    """:class:`SensitivityRule` with the thresholds and the comparison of the public code."""

    def __init__(
        self, config: SenCacheConfig, curve: Curve | None, settings: OfficialSettings
    ) -> None:
        """Set up the rule.

        Args:
            config: Thresholds and cap.
            curve: Sensitivities; None is allowed where nothing is ever reused.
            settings: Of the family's script.
        """
        super().__init__(config, curve)
        self._strict = config.strict_epsilon
        self._settings = settings

    def _strict_steps(self, num_steps: int) -> int:
        return self._settings.strict_steps(num_steps, self._config.strict_fraction)

    def _below(self, score: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
        return score < threshold
