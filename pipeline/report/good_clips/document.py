"""The part of `report.json` about good clips. Controls are no clips of the dataset here."""

from __future__ import annotations

from pydantic import Field

from pipeline.report.base import ClipEntry, Estimate, ReportPart


class GoodClipCost(ReportPart):
    """Everything that was spent in the prefix, over its good clips."""

    device_s: float
    device_s_bounds: Estimate | None = Field(description="over clips; null below 8 good ones")
    dollars: float | None
    dollars_bounds: Estimate | None = Field(description="over clips; null below 8 good ones")


class ConditionTerm(ReportPart):
    """One of the terms of the condition that AND joins."""

    text: str
    fails: int = Field(description="clips that do not meet it")
    fails_alone: int = Field(description="of these, clips that meet all other terms")
    unknown: int = Field(description="clips that lack what it asks for")


class Threshold(ReportPart):
    """Where a condition over one score would lie to keep a share of the clips."""

    wanted: float = Field(description="share of the clips with a value")
    value: float
    kept: float = Field(description="share that it keeps; more than wanted where values repeat")


class ScoreSummary(ReportPart):
    """The values of one score over the clips of the dataset."""

    name: str
    clips: int = Field(description="with a value")
    missing: int = Field(description="clips whose scorer gave none")
    mean: float | None
    deciles: list[float] = Field(description="least, nine deciles, greatest; empty without values")
    at_least: list[Threshold] = Field(description="name >= value keeps kept")
    at_most: list[Threshold] = Field(description="name <= value keeps kept")
    edges: list[float] = Field(description="of the bars of a histogram, from least to greatest")
    counts: list[int] = Field(description="clips of each bar")
    meaning: str = Field(
        default="", description="what it measures and which direction is better, if known"
    )


class FoundDefect(ReportPart):
    """Clips with a defect that a score can tell whatever the prompt asks for (docs/scores.md)."""

    score: str
    sound: str = Field(description="condition of a clip without it")
    meaning: str = Field(description="as in: 2 clips are cut")
    clips: int = Field(description="that have it")


class DuplicateGroup(ReportPart):
    """Clips that look nearly the same; the first one made stands for them."""

    first: ClipEntry
    others: list[ClipEntry] = Field(description="some of them")
    clips: int = Field(description="all of them, the first included")


class NearDuplicates(ReportPart):
    """Clips whose perceptual hashes are near one another."""

    compared: int = Field(description="clips with a hash that were compared")
    groups: int
    repeats: int = Field(description="clips that repeat the first of their group")
    of_other_settings: int = Field(
        default=0, description="those that look like a clip of the same prompt and other settings"
    )
    largest: list[DuplicateGroup]
    note: str = Field(description="why nothing was compared; empty where it was")


class ScorerUsed(ReportPart):
    """A scorer in one version."""

    scorer: str = Field(description="name@version")
    clips: int = Field(description="clips that it was asked about")


class MissingScores(ReportPart):
    """Clips that lack scores for one reason."""

    reason: str
    clips: int


class JudgedClip(ReportPart):
    """A clip to look at, with what was said of it."""

    clip: ClipEntry
    scores: dict[str, float | None]
    fails: list[str] = Field(description="terms of the condition that it does not meet")


class GoodClips(ReportPart):
    """What was scored and judged, and what follows from it."""

    condition: str = Field(description="of the last --keep; empty if there is none, or several")
    good: int
    not_good: int
    not_judged: int = Field(description="without a condition, or without a score that it needs")
    share: Estimate | None = Field(description="good clips of those that were judged")
    cost: GoodClipCost | None = Field(description="null without good clips")
    terms: list[ConditionTerm]
    scores: list[ScoreSummary]
    defects: list[FoundDefect] = Field(
        default=[], description="those that the scores can tell, also where no clip has them"
    )
    defective: int = Field(default=0, description="clips with at least one of them")
    scorers: list[ScorerUsed]
    missing: list[MissingScores] = Field(description="the most frequent reasons")
    duplicates: NearDuplicates
    score_s: float = Field(description="thread seconds of scoring, over the dataset's clips")
    kept: list[JudgedClip] = Field(description="good clips to look at")
    rejected: list[JudgedClip] = Field(description="clips to look at that are not good")
    notes: list[str]
    advice: str = Field(description="what to do next, in one sentence")
