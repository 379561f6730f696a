"""The numbers of a report: `report/report.json`, whose schema `jobs/report.py --schema` prints.

The schema is a contract: fields are added, never renamed, and `format` changes if a meaning
changes. A class with another name in the schema has it as title and `__qualname__`. Device seconds
are seconds times the devices of a group. Money is null where no price is known.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from pipeline.report.base import ClipEntry, Estimate, ReportPart
from pipeline.report.candidates.document import OwnDrafts, Redraws
from pipeline.report.good_clips.document import GoodClips
from pipeline.report.good_clips.recaptions import Recaptions
from pipeline.report.tables.document import Bucket, ClipSettings, InputColumn, Quality, Stretch

FORMAT: Final = "sencache-report/1"


class RunEntry(ReportPart, title="Run"):
    """One execution of jobs/generate.py into the prefix."""

    __qualname__ = "Run"

    run_id: str
    state: str = Field(
        description="running, done, interrupted, error; killed: no end is recorded, and no sign of "
        "life comes; unknown without its record"
    )
    started_at: str = ""
    ended_at: str = ""
    rows: int = Field(description="rows that it wrote")
    wanted: int | None = Field(description="samples that it set out to make, if recorded")
    lost_parts: int = Field(default=0, description="parts of its rows that are gone")
    lost_rows: int = Field(
        default=0, description="rows that are gone, where an older version recorded no parts"
    )
    command: str = Field(
        default="", description="does the run again; empty for programs, and where it is not known"
    )
    by_program: bool = Field(default=False, description="made by pipeline.generate of a program")


class Totals(ReportPart):
    """Counts over the prefix; a sample is one id, and one of its rows counts."""

    rows: int
    samples: int = Field(description="ids, controls included")
    ok: int = Field(description="clips of the dataset: status ok, no controls")
    failed: int
    rejected: int
    controls: int = Field(description="controls with status ok")
    controls_failed: int
    superseded: int = Field(description="rows that do not count: another row of their id does")
    extra_attempts: int = Field(description="attempts beyond the first, over all rows")
    video_s: float = Field(description="seconds of video in the dataset")
    media_bytes: int
    steps: int = Field(description="sampler steps of the dataset's clips")
    nfe: int = Field(description="network evaluations of the dataset's clips, in steps")
    truncated: int = Field(
        default=0, description="clips whose prompt has an end that the model did not read"
    )
    lost: int = Field(default=0, description="files of clips and tensors that are not whole")
    tensor_clips: int = Field(default=0, description="clips with tensors for trainers")
    tensor_bytes: int = Field(default=0, description="bytes of these, beside the clips")


class Spent(ReportPart):
    """Device-seconds and money; the parts add up to the total."""

    clips: float
    controls: float
    failed_attempts: float = Field(description="attempts that raised, as far as measured")
    drafts: float = Field(default=0.0, description="drafts that clips were chosen by")
    regenerated: float = Field(description="rows that do not count")
    loading: float
    idle: float = Field(description="between loading and the last clip of each process")
    total: float


class Headline(ReportPart):
    """What most people look for."""

    dollars_per_clip: float | None = Field(description="own device time and failed attempts")
    dollars_per_clip_all_in: float | None = Field(description="everything that was spent")
    gpu_s_per_clip: float | None
    video_s_per_gpu_hour: float | None = Field(description="over device time of clips and failures")
    reuse_ratio: float | None = Field(description="reused / steps")
    nfe_mean: float | None
    psnr_db: Estimate | None = Field(description="over all pairs whose frames were compared")
    psnr_worst: float | None
    quality_pairs: int
    unpaired: int = Field(
        default=0, description="cached clips of settings of which no clip was compared"
    )
    unpaired_settings: list[str] = Field(default=[], description="`settings` of these")
    paired_settings: list[str] = Field(default=[], description="`settings` of compared clips")
    unpaired_kinds: list[str] = Field(
        default=[], description="names of the kinds of which no clip was compared, if some are"
    )


class Speedup(ReportPart):
    """Control seconds / cached seconds over pairs of one run, device and batch size."""

    pairs: int = Field(description="pairs that count")
    calls: int = Field(
        default=0,
        description="engine calls that timed them, of clips or controls, whichever are fewer; the "
        "interval resamples these. 0 in reports of older versions",
    )
    left_out: dict[str, int] = Field(description="reason to pairs")
    ratio: Estimate | None
    note: str
    steps_ratio: float | None = Field(
        default=None, description="steps / network evaluations of the cached clips"
    )
    not_cached: dict[str, float] = Field(
        default={}, description="share of the time of cached clips that caching does not shorten"
    )
    why: str = Field(default="", description="why the speed-up is far from the ratio of steps")
    controls_to_come: bool = Field(
        default=False, description="no control is made yet, and the latest run has yet to make some"
    )


class Node(ReportPart):
    """One node of the cluster."""

    node: str
    device_name: str
    processes: int
    clips: int
    gpu_s: float
    video_s_per_gpu_hour: float | None


class Lap(ReportPart):
    """Where device time went."""

    name: str
    device_s: float
    share: float = Field(description="of all device time; 0 for what runs beside it")
    beside: bool = Field(description="on CPU threads while the device samples the next clip")


class Bar(ReportPart):
    """Clips with so many network evaluations."""

    nfe: int
    clips: int


class Decisions(ReportPart):
    """Share of clips that computed each step, for clips of one policy, length and NFE."""

    policy: str
    steps: int
    nfe: int
    clips: int
    computed: list[float]


class ScatterPoint(ReportPart, title="Point"):
    """One clip in a scatter plot."""

    __qualname__ = "Point"

    sample_id: str
    x: float
    y: float
    group: str


class Slice(ReportPart):
    """Cost of clips that have something in common."""

    key: str
    clips: int
    gpu_s_per_clip: float
    dollars_per_clip: float | None
    nfe_mean: float


class Cause(ReportPart):
    """Samples that ended alike."""

    status: Literal["failed", "rejected"]
    error_type: str
    samples: int
    attempts: int
    example_id: str
    example_caption: str
    example_source: str
    example_message: str


class ReportProjection(ReportPart, title="Projection"):
    """What is still to come, at the rate so far."""

    __qualname__ = "Projection"

    what: str
    clips: int
    gpu_s: float
    dollars: float | None


class WhatIf(ReportPart):
    """A clip at another number of evaluations; cost by a line through cached and control calls."""

    budget: float
    nfe: int
    gpu_s_per_clip: float
    dollars_per_clip: float | None
    speedup: float
    psnr_db: float | None = Field(description="measured here, null where no pair has this NFE")
    measured: bool = Field(description="whether clips of this NFE are among the rows")


class PriceUsed(ReportPart):
    """A price that went into the sums."""

    scope: str
    dollars_per_gpu_hour: float
    source: str
    device_s: float


class ReportVerdict(ReportPart):
    """The report in four sentences."""

    got: str
    good: str = Field(description="is it good: what was judged and measured, and what was not")
    cost: str
    next: str = Field(description="what to do next")
    command: str = Field(description="of what to do next; empty where no command does it")


class Report(ReportPart):
    """Everything that a report shows."""

    format: Literal["sencache-report/1"] = FORMAT
    generated_at: str
    output: str
    notes: list[str] = Field(description="what a reader must know to trust the numbers")
    runs: list[RunEntry]
    totals: Totals
    headline: Headline
    device_s: Spent
    dollars: Spent | None
    speedup: Speedup
    quality: list[Quality]
    bucket_s: float
    throughput: list[Bucket]
    stretches: list[Stretch] = Field(default=[], description="without the pauses between them")
    nodes: list[Node]
    time: list[Lap]
    nfe: list[Bar]
    decisions: list[Decisions]
    errors: list[ScatterPoint] = Field(description="x predicted, y actual change; a sample")
    quality_by_nfe: list[ScatterPoint] = Field(description="x NFE, y PSNR dB of pairs; a sample")
    cost_by_model: list[Slice]
    cost_by_policy: list[Slice]
    cost_by_prompt: list[Slice]
    failures: list[Cause]
    projections: list[ReportProjection]
    what_if: list[WhatIf]
    gallery: list[ClipEntry]
    worst: list[ClipEntry]
    prices: list[PriceUsed]
    settings: list[ClipSettings] = Field(default=[], description="more than one: a mixed dataset")
    repeated_prompts: int = Field(
        default=0, description="prompts that have clips of several settings"
    )
    kept: dict[str, int] = Field(default={}, description="input column in `source` to clips")
    by_input: list[InputColumn] = Field(
        default=[], description="by columns of the input that have few values"
    )
    inputs_left_out: dict[str, str] = Field(
        default={}, description="input column that clips are not divided by, and why"
    )
    verdict: ReportVerdict | None = Field(
        default=None, description="null in reports of older versions"
    )
    good_clips: GoodClips | None = Field(
        default=None, description="null where no clip was scored or judged"
    )
    recaptions: Recaptions | None = Field(
        default=None, description="captions written from frames; null where nothing was captioned"
    )
    redraws: Redraws | None = Field(
        default=None, description="null where no run allowed a second try at a clip"
    )
    drafts: OwnDrafts | None = Field(
        default=None, description="null where no clip was chosen by drafts"
    )
