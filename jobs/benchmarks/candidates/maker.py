"""Makes the clips of an arm in this process, and says what each of them cost.

It stands in for the workers of a run: `pipeline.candidates` tells it what to make, as there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.dataset.schema import Provenance, Row, SampleOutcome, make_row
from pipeline.engine.protocol import Engine
from pipeline.requests.sample_request import SampleRequest
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.scorer import ScoredClip

ROWS = 4
"""Clips per engine call."""


@dataclass
class TimedMaker:
    """Makes units of requests, each alone, and scores their clips.

    Attributes:
        engine: Of the arm.
        panel: Scores clips and says which are good.
        rows: One per clip, drafts included. `gpu_s` is CPU time: of the process, over the clips of
            the call.
    """

    engine: Engine
    panel: ScorerPanel
    rows: list[Row] = field(default_factory=list)

    def __call__(self, units: Sequence[Sequence[SampleRequest]]) -> list[Row]:
        """Make units; the rows are in their order."""
        requests = [request for unit in units for request in unit]
        made: list[Row] = []
        for start in range(0, len(requests), ROWS):
            made += self._call(requests[start : start + ROWS])
        self.rows += made
        return made

    def _call(self, requests: Sequence[SampleRequest]) -> list[Row]:
        cpu, wall = time.process_time(), time.perf_counter()
        clips = self.engine.generate(requests)
        share = 1 / len(requests)
        cpu = (time.process_time() - cpu) * share
        wall = (time.perf_counter() - wall) * share
        rows = []
        for request, clip in zip(requests, clips, strict=True):
            # Text and decoding are timed by the wall clock; the CPU was busy alike throughout.
            text_s = clip.text_s * share * cpu / wall
            decode_s = clip.decode_s * share * cpu / wall
            times = {
                "text_s": text_s,
                "denoise_s": cpu - text_s - decode_s,
                "decode_s": decode_s,
                "wasted_s": 0.0,
            }
            provenance = Provenance(
                "", self.engine.device_name, batch_rows=len(requests), wall_s=cpu, times=times
            )
            row = make_row(request, provenance, SampleOutcome("ok", cache=clip.cache))
            seen = ScoredClip(clip.frames, request.fps, request.prompt, row)
            row |= self.panel.score(seen).to_row()
            row["good"] = self.panel.is_good(row)
            rows.append(row)
        return rows
