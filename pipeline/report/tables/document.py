"""The parts of `report.json` over time and by columns of the input."""

from __future__ import annotations

from pydantic import Field

from pipeline.report.base import ReportPart


class Bucket(ReportPart):
    """Clips finished in one span of time on one node."""

    start: str
    node: str
    clips: int
    stretch: int = Field(default=0, description="position of its stretch in `stretches`")
    span: int = Field(default=0, description="number of the span in its stretch")


class Stretch(ReportPart):
    """A time in which at least one run was up, from its first call to its last clip."""

    start: str
    seconds: float
    spans: int = Field(description="equal spans of time that it is cut into")


class InputValue(ReportPart):
    """The dataset's clips with one value in a column of the input."""

    value: str
    clips: int
    good: int
    judged: int
    gpu_s_per_clip: float
    dollars_per_clip: float | None
    nfe_mean: float
    psnr_db: float | None = Field(description="mean over pairs with controls")
    pairs: int
    scores: dict[str, float | None] = Field(description="means by name, of scores that differ")


class InputColumn(ReportPart):
    """The dataset's clips by the values of one column of the input."""

    column: str
    values: list[InputValue] = Field(description="the most frequent first")
    without: int = Field(description="clips without a value")
