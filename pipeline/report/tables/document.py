"""The parts of `report.json` over time, by settings and by columns of the input."""

from __future__ import annotations

from pydantic import Field

from pipeline.report.base import Estimate, ReportPart


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


class ClipSettings(ReportPart):
    """Clips of the dataset that share their settings and their size."""

    name: str = Field(
        default="", description="what sets them apart from the others; empty if all are alike"
    )
    settings: str = Field(description="column of the rows; empty if not recorded")
    model: str
    policy: str
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None = Field(default=None, description="of a second transformer")
    width: int
    height: int
    num_frames: int
    fps: int = 0
    negative_prompt: str | None = Field(
        default=None, description="null where clips have too many to be counted apart"
    )
    seed: int | None = Field(
        default=None, description="the one that the run gave; null where it gave none"
    )
    clips: int
    nfe_mean: float


class Quality(ReportPart):
    """Cached clips against their controls, of one setting and similar numbers of evaluations."""

    policy: str
    settings: str = Field(
        default="", description="what sets its clips apart; empty where all clips are alike"
    )
    kinds: int = Field(default=1, description="settings that its clips have")
    nfe: int = Field(description="of its clips; the least where they differ")
    nfe_most: int = Field(default=0, description="the most; 0 in reports of older versions")
    nfe_mean: float = Field(default=0.0, description="0 in reports of older versions")
    steps: int
    pairs: int
    psnr_db: Estimate
    psnr_p10: float = Field(description="a tenth of the clips is worse")
    psnr_worst: float
    ssim: Estimate | None
    lpips: Estimate | None
    promised_error: float | None = Field(None, description="relative, of the last latents; rms")
    latent_error: float | None = Field(None, description="the same, measured by controls")
    note: str


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
