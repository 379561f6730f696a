"""What decides the pixels of a clip and no input row can set, as a short text: `settings` of a row.

Clips of one run share it; clips of other settings in the same prefix are told apart by it. What a
row may set (prompt, seed, size, frames, steps, guidance) has columns of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.redaction import shown
from pipeline.requests.from_row import WHOLE_NUMBERS
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity, SampleRequest, digest

if TYPE_CHECKING:
    from pipeline.calibration.measurement import ChosenProfile
    from pipeline.config.cache_section import CacheConfig
    from pipeline.requests.from_row import RequestDefaults

ROW_SETTINGS = (
    *("num_inference_steps", "guidance_scale", "guidance_scale_2", "width", "height"),
    *("num_frames", "fps", "negative_prompt"),
)
"""Columns of output rows for which a run has a default that an input row may replace.

With `settings` and the seed, these tell clips of different settings apart: where a run starts
(`pipeline.earlier_defaults`) and in the report (`pipeline.report.tables.clip_kinds`).
"""

SEED = "seed_u64"
"""The column of the seed, which is a setting of the run only where the run gives one."""

VALUE_CHARS = 40
"""Characters of a negative prompt that messages show."""

CONTROL = "control, "
"""Begins the text of a control, which is no clip of the dataset."""


def settings_text(request: SampleRequest) -> str:
    """Return the settings of a request: readable, and equal only for equal settings.

    For example `demo planned budget=0.34 FlowMatchEulerDiscreteScheduler/3.0 #1a2b3c4d`.
    """
    cache, model = request.cache, request.model_class or request.model
    decided = [
        *(model, request.model_revision, request.sampler, request.max_sequence_length),
        *(cache.policy, cache.params, cache.profile),
        *([*request.adapters], request.dtype, request.decoding),
        *([[*request.sigmas]] if request.sigmas else []),
        *([request.quantisation] if request.quantisation else []),
        *([request.safety_checker] if request.safety_checker else []),
    ]
    params = json.loads(cache.params)
    texts = [model, cache.policy]
    texts += [
        f"{name}={params[name]}"
        for name in ("budget", "max_error", "epsilon", "gate")
        if name in params
    ]
    levels = ",".join(f"{sigma:g}" for sigma in request.sigmas)
    texts += [request.sampler, f"sigmas={levels}" if levels else ""]
    texts += [*request.adapters, request.dtype, request.quantisation, request.decoding]
    texts += ["unchecked"] if request.safety_checker else []
    text = " ".join(part for part in texts if part)
    return f"{CONTROL * bool(request.control_of)}{text} #{digest(decided).hex()[:8]}"


def value_text(value: Any) -> str:
    """Return the value of a setting as messages show it: texts quoted and cut, None as `unset`."""
    if isinstance(value, str):
        text = shown(value)
        return f'"{text[:VALUE_CHARS]}…"' if len(text) > VALUE_CHARS else f'"{text}"'
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else f"{value}"


def cache_used(cache: CacheConfig, chosen: ChosenProfile) -> dict[str, Any]:
    """Return what the cache section of a run came to, for its manifest.

    The profile is "" where there is none, or the run has yet to measure it.
    """
    found = chosen.profile.hash if chosen.profile else ""
    return cache.used() | {"profile": found, "profile_source": chosen.source}


def own_settings(defaults: RequestDefaults) -> tuple[str, ...]:
    """Return the settings of the clips that a run makes: its own, and those of its first clips."""
    texts: tuple[str, ...] = ()
    for sampler in _samplers(defaults):
        template = replace(defaults.template, sampler=sampler)
        if template.cache.profile != UNMEASURED:
            texts += (settings_text(template),)
        if defaults.chosen.source == "own":
            texts += (settings_text(replace(template, cache=CacheIdentity())),)
    return texts


def _samplers(defaults: RequestDefaults) -> list[str]:
    """The sampler of the run, and those that rows of other sizes have."""
    found = {defaults.template.sampler: None}
    if defaults.sampler_at is not None:
        largest = WHOLE_NUMBERS["width"][1]
        found |= dict.fromkeys(defaults.sampler_at(side, side) for side in (1, largest))
    return list(found)
