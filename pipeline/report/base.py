"""What every part of a report is built on: the base of all parts, estimates, clips to look at."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from pipeline.redaction import redacted


class ReportPart(BaseModel):
    """Base of all parts. No text in them holds credentials, whatever the rows say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _redact(cls, value: Any) -> Any:
        return redacted(value) if isinstance(value, str | list) else value


class Estimate(ReportPart):
    """A value with its bootstrap interval of 95 %, over pairs or clips."""

    value: float
    low: float
    high: float


class ClipEntry(ReportPart, title="Clip"):
    """A clip beside its control."""

    __qualname__ = "Clip"

    sample_id: str
    caption: str
    path: str
    model: str
    seed: int
    policy: str
    nfe: int
    steps: int
    wall_s: float
    control_id: str = ""
    control_path: str = ""
    control_wall_s: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
