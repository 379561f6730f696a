"""Turns one input row into a request: what it may set, what it inherits, and why it is rejected.

It knows neither file formats (`pipeline.prompts`) nor what is already made
(`pipeline.requests.intake`). The fast path for a whole input is `pipeline.requests.lazy_request`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RowRejectedError
from pipeline.models.sizes import SizeRules
from pipeline.prompts.prompt_file import ImageRef
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
        seed: Base seed; with None, each seed follows from the prompt and the image.
        sizes: Sizes that the model can make.
        takes_image: Whether every clip starts from an image; if not, a row's image is ignored.
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
    takes_image: bool = False
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
        row: Column name to value; None means "not given". Unknown columns are ignored. The image
            of a model that takes one is an `ImageRef`.
        defaults: Inherited values and the model's size rules.
        source_key: Place of the row in the input.
        copy: Number of the clip among the row's `samples_per_prompt`; it only changes the seed.

    Returns:
        A validated request with its seed.

    Raises:
        RowRejectedError: The row is not valid; the text names the field and what would be right.
    """
    fields = checked_fields(row, defaults)
    first = first_seed(row.get("seed"), defaults.seed, fields["prompt"], fields.get("image", ""))
    seed = copy_seed(first, copy)
    return defaults.settled(
        dataclasses.replace(defaults.template, source_key=source_key, seed=seed, **fields)
    )


def checked_fields(row: Mapping[str, Any], defaults: RequestDefaults) -> dict[str, Any]:
    """Return the fields of a request that its row sets, apart from the seed.

    Returns:
        The prompt; all of `OVERRIDES` in a fixed order if the row sets any of them; the image.

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
    if defaults.takes_image:
        image = row.get("image")
        if not isinstance(image, ImageRef):
            raise RowRejectedError("image is missing: this model starts from one")
        fields |= {"image": image.sha256, "image_at": image.at}
    problem = defaults.sizes.problem(*size) or defaults.steps_problem(
        fields.get("num_inference_steps", base.num_inference_steps)
    )
    if problem:
        raise RowRejectedError(problem)
    return fields


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
