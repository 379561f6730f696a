"""Ranks of test groups that hold a model; ranks find them by name."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.group import RankContext
from pipeline.group.engine import LoadRank


class DisagreeingRank(LoadRank):
    """A rank 1 that would always decide the other way round; tells of the agreement when asked."""

    def __call__(self, context: RankContext) -> Any:
        rank: Any = super().__call__(context)
        agreement = rank.engine._seat.agreement
        settle = agreement.settle

        def perturbed(facts: torch.Tensor, verdicts: int) -> torch.Tensor:
            facts = facts.clone()
            if context.rank == 1:
                facts[:, verdicts] = 1 - facts[:, verdicts]
            return settle(facts, verdicts)

        agreement.settle = perturbed

        def work(payload: Any) -> Any:
            if payload == "agreement":
                return agreement.disagreements, agreement.decisions
            return rank(payload)

        return work
