"""The parts of `report.json` about redraws and about drafts."""

from __future__ import annotations

from pydantic import Field

from pipeline.report.base import Estimate, ReportPart


class RedrawTry(ReportPart):
    """All tries of one number, over the samples of the prefix."""

    number: int = Field(description="1 for the first try, 2 for the first redraw")
    clips: int = Field(description="clips that it made")
    failed: int = Field(description="tries without a clip")
    good: int = Field(description="good clips, by the last condition")
    won: int = Field(description="samples that it gave their first good clip")
    device_s: float = Field(description="of its calls and failed attempts, without loading or idle")
    device_s_per_won: float | None = Field(description="null where it won nothing")
    device_s_per_won_bounds: Estimate | None = Field(
        description="over its tries; null where it won fewer than 8"
    )
    dollars_per_won: float | None = Field(description="null where it won nothing, or no price")


class Redraws(ReportPart):
    """What each try at clips that were not good has won. Drafts are no tries."""

    samples: int
    with_good: int = Field(description="samples that have a good clip")
    tries: list[RedrawTry]
    advice: str = Field(description="whether one more try pays, in a sentence")


class DraftScore(ReportPart):
    """One score of chosen drafts against the clips that were finished from them."""

    score: str = Field(description="its name, or the expression of --select-by")
    samples: int = Field(description="samples that were compared")
    rank_correlation: Estimate | None = Field(
        description="Spearman's, chosen drafts with finished clips, over samples; null if undefined"
    )
    difference: Estimate = Field(description="finished clip less its draft, mean")
    gain: Estimate = Field(description="chosen draft less the mean of the sample's drafts, mean")


class DraftRegret(ReportPart):
    """The choice of the drafts, for samples all of whose drafts were finished."""

    samples: int
    rank_correlation: Estimate | None = Field(
        description="Spearman's, drafts with finished clips of a sample, mean; null if undefined"
    )
    same_seed: Estimate = Field(description="share whose best draft has the best finished clip")
    regret: Estimate = Field(description="best finished clip less the chosen one, mean")
    gain: Estimate = Field(description="chosen finished clip less the mean of all, mean")


class OwnDrafts(ReportPart):
    """The drafts that clips of the prefix were chosen by, and what they say of the clips."""

    samples: int = Field(description="clips that were chosen by drafts")
    drafts: int
    device_s: float
    nfe: int = Field(description="evaluations of all drafts")
    scores: list[DraftScore] = Field(description="--select-by first")
    looked_at: int = Field(description="samples whose drafts' own scores were read")
    regret: DraftRegret | None = Field(
        description="of --select-by; null where no sample has finished clips of all its drafts"
    )
    notes: list[str]
