"""Drafts: cheap tries at a clip, by several seeds, of which the best is finished.

A draft is the clip of its seed with a smaller budget of steps, so it shows what the finished clip
will look like. The finished clip is an ordinary sample: the same request with the chosen seed. It
is made afresh. What a draft computed cannot be reused: the two trajectories part at the first step
that only one of them computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from pipeline.requests.seeds import draft_seed
from sencache.measuring import prior_profile


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """How a run chooses among drafts; picklable.

    Attributes:
        best_of: Drafts per clip.
        budget: Share of the steps that a draft computes, in (0, 1].
        select_by: What tells better drafts from worse ones, as `--select-by`.
        keep: Whether the clips of drafts are stored too.
        frames: Frames of a draft that are decoded and scored, from the first on; 0 for all.
    """

    best_of: int = 1
    budget: float = 0.16
    select_by: str = ""
    keep: bool = False
    frames: int = 0


@dataclass(frozen=True, slots=True)
class DraftResult:
    """One draft, as the row of its finished clip tells it.

    Attributes:
        sample_id: Of the draft.
        seed_u64: Its seed, which is also that of the clip that would have been finished.
        value: Of `--select-by`; None where a score that it needs is missing, or the draft failed.
        nfe: Evaluations.
        gpu_s: Device seconds, failed attempts included.
    """

    sample_id: str
    seed_u64: int
    value: float | None
    nfe: int
    gpu_s: float


def candidates_of(request: SampleRequest, best_of: int) -> list[SampleRequest]:
    """The requests of the finished clips, one for each seed, of which one will be made."""
    return [
        dataclasses.replace(
            request, seed=draft_seed(request.seed, place), candidate=place + 1, candidates=best_of
        )
        for place in range(best_of)
    ]


def drafts_of(request: SampleRequest, settings: DraftSettings) -> list[SampleRequest]:
    """The drafts of a request.

    Raises:
        ValueError: The request is not planned.
    """
    slot = request.sample_id
    frames = settings.frames if settings.frames < request.num_frames else 0
    cache = _draft_cache(request, settings.budget)
    return [
        dataclasses.replace(each, cache=cache, draft_of=slot, first_frames=frames)
        for each in candidates_of(request, settings.best_of)
    ]


def _draft_cache(request: SampleRequest, budget: float) -> CacheIdentity:
    """The cache of a request with another budget and without a gate."""
    own = request.cache.settings(request.num_inference_steps, request.guidance_scale)
    if own.policy != "planned":
        raise ValueError(f"drafts are planned, and the clip has the policy {own.policy}")
    draft = dataclasses.replace(own, budget=budget, max_error=None, gate=0)
    # Nothing but the hash of the profile goes into the identity, so any profile shows the rest.
    like = CacheIdentity.of(draft, prior_profile("flow"))
    return dataclasses.replace(like, profile=request.cache.profile)


def results_json(results: Sequence[DraftResult]) -> str:
    """The drafts of a clip as the text that its request carries."""
    return canonical_json([dataclasses.asdict(each) for each in results])
