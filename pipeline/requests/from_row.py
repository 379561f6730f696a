"""Turns one input row into a request: what it may set, what it inherits, and why it is rejected.

It knows neither file formats (`pipeline.prompts`) nor what is already made
(`pipeline.requests.intake`). The fast path for a whole input is `pipeline.requests.lazy_request`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RowRejectedError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import (
    ConditionFile,
    MediaCondition,
    content_of,
    missing,
    too_short,
)
from pipeline.requests.row_values import MAX_PROMPT_CHARS, integer, number, text
from pipeline.requests.sample_request import SampleRequest, digest
from pipeline.requests.seeds import copy_seed, first_seed

if TYPE_CHECKING:
    from pipeline.calibration.measurement import ChosenProfile

MAX_GUIDANCE = 100.0

WHOLE_NUMBERS = {
    "num_inference_steps": (1, 1000),
    "width": (1, 16_384),
    "height": (1, 16_384),
    "num_frames": (1, 100_000),
    "fps": (1, 240),
}
"""Lowest and highest value of what a row, or the run's `sampling` section, may set."""
OVERRIDES = frozenset({"negative_prompt", *WHOLE_NUMBERS, "guidance_scale", "guidance_scale_2"})
"""What a row may set, apart from prompt and seed."""


def _no_profile() -> ChosenProfile:
    from pipeline.calibration.measurement import ChosenProfile  # loads numpy; settings need it not

    return ChosenProfile()


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """What a row inherits unless it says otherwise, and the sizes that its model can make.

    Attributes:
        template: A request whose prompt, seed and source_key are placeholders.
        seed: Base seed; with None, each seed follows from the prompt and the files.
        sizes: Sizes that the model can make.
        conditions: What clips start from besides their texts; other condition columns are ignored.
        distilled_guidance: Whether the guidance scale is an input of the network, which then reads
            no negative prompt.
        steps_problem: Says why the cache cannot serve a number of steps; "" if it can.
        chosen: The profile that the run plans with.
        sampler_at: The sampler of a width and height, where it depends on them: an authors' shift
            for small frames and another one for large frames. None: one sampler for all.
    """

    template: SampleRequest
    seed: int | None
    sizes: SizeRules
    conditions: tuple[MediaCondition, ...] = ()
    distilled_guidance: bool = False
    steps_problem: Callable[[int], str] = lambda steps: ""
    chosen: ChosenProfile = dataclasses.field(default_factory=_no_profile)
    sampler_at: Callable[[int, int], str] | None = None

    def settled(self, request: SampleRequest) -> SampleRequest:
        """Return the request with the sampler of its size, and without what its model ignores.

        Guidance that is off has the scale 1, and no negative prompt: only the unconditional branch
        would read it. So requests for one clip have one id.
        """
        if self.sampler_at is not None:
            sampler = self.sampler_at(request.width, request.height)
            if sampler != request.sampler:
                request = dataclasses.replace(request, sampler=sampler)
        if self.distilled_guidance or request.guidance_scale > 1.0:
            return request
        return dataclasses.replace(
            request, guidance_scale=1.0, guidance_scale_2=None, negative_prompt=""
        )


def build_request(
    row: Mapping[str, Any], defaults: RequestDefaults, source_key: str, copy: int = 0
) -> SampleRequest:
    """Turn one input row into a request.

    Args:
        row: Column name to value; None means "not given". Unknown columns are ignored. A column
            that the model takes as a condition holds its `ConditionFile`s.
        defaults: Inherited values and the model's size rules.
        source_key: Place of the row in the input.
        copy: Number of the clip among the row's `samples_per_prompt`; it only changes the seed.

    Returns:
        A validated request with its seed.

    Raises:
        RowRejectedError: The row is not valid; the text names the field and what would be right.
    """
    fields = checked_fields(row, defaults)
    files = content_of(fields.get("conditions", ()))
    first = first_seed(row.get("seed"), defaults.seed, fields["prompt"], files)
    seed = copy_seed(first, copy)
    return defaults.settled(
        dataclasses.replace(defaults.template, source_key=source_key, seed=seed, **fields)
    )


def checked_fields(row: Mapping[str, Any], defaults: RequestDefaults) -> dict[str, Any]:
    """Return the fields of a request that its row sets, apart from the seed.

    Returns:
        The prompt; all of `OVERRIDES` in a fixed order if the row sets any of them; the files.

    Raises:
        RowRejectedError: The row is not valid.
    """
    fields: dict[str, Any] = {"prompt": text(row.get("prompt"), "prompt", required=True)}
    base = defaults.template
    size = base.width, base.height, base.num_frames
    for name in row.keys() & OVERRIDES:
        if row[name] is not None:
            fields |= _overrides(row, defaults)
            size = fields["width"], fields["height"], fields["num_frames"]
            break
    if defaults.conditions:
        fields["conditions"] = _files(row, defaults.conditions)
    problem = defaults.sizes.problem(*size) or defaults.steps_problem(
        fields.get("num_inference_steps", base.num_inference_steps)
    )
    if problem:
        raise RowRejectedError(problem)
    for file in fields.get("conditions", ()):
        fps = fields.get("fps", base.fps)
        if file.seconds is not None and (short := too_short(file.seconds, fps, size[2])):
            raise RowRejectedError(f"{file.column} {short}")
    return fields


def _files(
    row: Mapping[str, Any], conditions: Sequence[MediaCondition]
) -> tuple[ConditionFile, ...]:
    """The files of a row, in the order of the model's conditions."""
    files: list[ConditionFile] = []
    for each in conditions:
        found = row.get(each.column) or ()
        if each.required and not found:
            raise RowRejectedError(missing(each.column, is_there=each.column in row))
        files.extend(found)
    return tuple(files)


def _overrides(row: Mapping[str, Any], defaults: RequestDefaults) -> dict[str, Any]:
    base, negative = defaults.template, row.get("negative_prompt")
    if negative and defaults.distilled_guidance:
        raise RowRejectedError(
            f"negative_prompt: {base.model} reads none (its guidance is distilled): leave it empty"
        )
    fields: dict[str, Any] = {
        "negative_prompt": base.negative_prompt
        if negative is None
        else text(negative, "negative_prompt", required=False)
    }
    for name, (low, high) in WHOLE_NUMBERS.items():
        fields[name] = integer(row.get(name), name, getattr(base, name), low, high)
    fields["guidance_scale"] = number(
        row.get("guidance_scale"), "guidance_scale", base.guidance_scale, 0.0, MAX_GUIDANCE
    )
    second = row.get("guidance_scale_2")
    if base.guidance_scale_2 is not None:
        fields["guidance_scale_2"] = number(
            second, "guidance_scale_2", base.guidance_scale_2, 0.0, MAX_GUIDANCE
        )
    elif second is not None:
        raise RowRejectedError(f"guidance_scale_2: {base.model} has one network: leave it empty")
    return fields


def rejected_id(row: Mapping[str, Any], repeat: int = 0) -> str:
    """Return the id of a row that cannot become a request.

    Its place is not part of it, so a row that moves in its file is not recorded again.

    Args:
        row: What could be read of it.
        repeat: How many rows before it have the same content.
    """
    shown = {str(key): repr(value)[:MAX_PROMPT_CHARS] for key, value in row.items()}
    return digest({"rejected": shown} | ({"repeat": repeat} if repeat else {})).hex()
