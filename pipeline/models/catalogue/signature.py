"""Describes a pipeline class that the registry does not know, as far as its signature tells.

For classes of diffusers whose network belongs to a known family, and for classes whose name is
unknown but whose parts are those of a known class. Imports diffusers, never code from a model.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.models.catalogue.conditions import (
    NOT_FROM_ROWS,
    ONE_PROMPT,
    OPTIONAL,
    UNUSED,
    conditions_of,
)
from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.catalogue.saved_sizes import sizes_of
from pipeline.models.catalogue.unlisted import (
    NO_CLIPS,
    OWN_STEPS,
    SIZE_OF_IMAGE,
    defaults_for,
    family_of,
    fitted,
    frames_asked,
    own_rules,
    prediction_of,
    sizes_for,
)
from pipeline.models.registry import PIPELINES
from pipeline.models.spec import (
    STANDARD_ARGUMENTS,
    PipelineClass,
    SamplingDefaults,
)
from pipeline.requests.sample_request import SampleRequest

HOW_TO_DESCRIBE = "describe it with --model-spec FILE.yaml (docs/models.md has an example)"

_SPEED = ("frame_rate", "fps")
"""Names under which calls take the frames per second."""

_FRAMES = ("num_frames", "frames", "video_length")
"""Names under which calls take the number of frames."""

_GIVEN_FRAMES = ("video", "control_video", "pose_video")
"""Videos whose length is that of the clip where a call takes no number of frames."""


_GUIDANCE = ("guidance_scale", "true_cfg_scale")


@dataclass(frozen=True, slots=True)
class _OwnArguments:
    """Frames and frames per second as a call takes them, and constants.

    Attributes:
        speed: Name of the argument; "" for none.
        constants: Arguments and their values.
        count: From the frames of a clip to what the call is asked for; None: the same.
    """

    speed: str
    constants: tuple[tuple[str, bool], ...] = ()
    count: Callable[[int], int] | None = None

    def __call__(self, request: SampleRequest) -> dict[str, Any]:
        given = {self.speed: request.fps} if self.speed else {}
        if self.count is not None:
            given["num_frames"] = self.count(request.num_frames)
        return given | dict(self.constants)


def same_parts(saved: SavedPipeline) -> PipelineClass | None:
    """Find the known class that a class of another name is made of; None if there is none.

    Its parts must be those that the known class takes, with a network of the same family. Of
    several, one whose name is contained in the name counts, else the first in the registry.
    """
    import diffusers

    if hasattr(diffusers, saved.class_name):
        return None  # a class of its own
    given = {name for name in saved.index if not name.startswith("_")}
    network = saved.part_class("transformer")
    found = []
    for known in PIPELINES.values():
        if network not in _networks(known.family.name):
            continue
        parameters = dict(inspect.signature(getattr(diffusers, known.name).__init__).parameters)
        del parameters["self"]
        if network not in str(parameters["transformer"].annotation):
            continue  # of the family, but its call has inputs that this class does not give
        needed = {
            name for name, each in parameters.items() if each.default is inspect.Parameter.empty
        }
        if needed <= given <= parameters.keys():
            found.append(known)
    stems = [each for each in found if each.name.removesuffix("Pipeline") in saved.class_name]
    return next(iter([*sorted(stems, key=lambda each: -len(each.name)), *found]), None)


def described(saved: SavedPipeline) -> tuple[PipelineClass, str]:
    """Describe a class of diffusers from the signature of its call.

    Returns:
        The class, and a line about it.

    Raises:
        UserError: It is no class of diffusers, its network is of no known family, or its call
            takes what a signature does not explain.
    """
    import diffusers

    name, network = saved.class_name, saved.part_class("transformer")
    pipeline_type = getattr(diffusers, name, None)
    if not isinstance(pipeline_type, type):
        raise _unknown(saved, "no class of diffusers, and its parts are of none")
    parameters = dict(inspect.signature(pipeline_type.__call__).parameters)
    _check_inputs(saved, parameters)
    like, family = _like(pipeline_type, network), _family(network)
    if like is None and not family:
        raise _unknown(saved, f"its network {network or '(none)'} is of no known family")
    sizes = sizes_of(saved.configs, like.sizes) if like else sizes_for(saved, family)
    sizes = own_rules(saved, sizes)
    own = like.defaults if like else defaults_for(pipeline_type, saved)
    true_scale = parameters.get("true_cfg_scale")
    embeds = saved.configs.get("transformer", {}).get("guidance_embeds", True)
    is_guided = true_scale is None or true_scale.default > 1.0 or not embeds
    names = {each: "" for each in STANDARD_ARGUMENTS if each not in parameters}
    names |= {"num_frames": next((each for each in _FRAMES if each in parameters), "")}
    count = frames_asked(saved)
    if count is not None:
        names["num_frames"] = ""
    if true_scale is not None and is_guided:
        names["guidance_scale"] = "true_cfg_scale"
    speed = next((each for each in _SPEED if each in parameters), "")
    conditions, condition_arguments = conditions_of(saved, parameters)
    known = PipelineClass(
        name=name,
        # No test compares two devices with one for this class.
        family=dataclasses.replace(like.family, splits={}, shares_decoder=False)
        if like
        else family_of(saved, family),
        sizes=sizes,
        defaults=fitted(_signature_defaults(parameters, own), sizes),
        sources={"*": f"signature of {name} in diffusers {diffusers.__version__}"},
        text_embeddings=(),
        conditions=conditions,
        condition_arguments=condition_arguments,
        one_prompt=name in ONE_PROMPT,
        own_steps=name in OWN_STEPS or _skips_steps(parameters),
        safety_checker="safety_checker" in inspect.signature(pipeline_type).parameters,
        prediction=like.prediction if like else prediction_of(saved),
        distilled_guidance="negative_prompt" not in parameters or not is_guided,
        call_arguments=_OwnArguments(
            speed,
            tuple((each, False) for each in _switched_off(saved, parameters)),
            count,
        ),
        argument_names=names,
    )
    line = (
        f"{name} is not in the registry: it runs as its call's signature says, with the networks "
        f"of the {known.family.name} family"
    )
    if unused := sorted(UNUSED.get(name, frozenset()) & parameters.keys()):
        line += f", without its optional {', '.join(unused)}"
    return known, line


def _switched_off(
    saved: SavedPipeline, parameters: Mapping[str, inspect.Parameter]
) -> Iterator[str]:
    """Arguments that are off.

    A size of a list in place of the one asked for, and sound where the model was saved without the
    part that makes it.
    """
    if "use_resolution_binning" in parameters:
        yield "use_resolution_binning"
    if "sample_audio" in parameters and not saved.part_class("vocoder"):
        yield "sample_audio"


def _skips_steps(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a call begins with a noisy video and leaves out its first steps."""
    strength = parameters.get("strength")
    return strength is not None and strength.default != 1.0


def _check_inputs(saved: SavedPipeline, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuse a class that needs what rows cannot give.

    Raises:
        UserError: It does.
    """
    name = saved.class_name
    if reason := NO_CLIPS.get(name) or _missing(name, parameters):
        raise UserError(
            f"model_path {saved.where} holds a {name}, which its signature alone cannot run: "
            f"{reason}. If a constant serves for it, {HOW_TO_DESCRIBE}"
        )


def _missing(name: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    """What a call takes that rows cannot give, or lacks that they ask for; "" for nothing."""
    needed = sorted(NOT_FROM_ROWS & parameters.keys() - OPTIONAL.get(name, frozenset()))
    if needed:
        return f"its call takes {', '.join(needed)}, which rows cannot give"
    if "prompt" not in parameters:
        return "its call takes no prompt"
    if not any(each in parameters for each in (*_FRAMES, *_GIVEN_FRAMES)):
        return "its call takes no num_frames"
    if "width" not in parameters and name not in SIZE_OF_IMAGE:
        return "its call takes no width and height, so the size of a clip cannot be chosen"
    return ""


def _like(pipeline_type: type, network: str) -> PipelineClass | None:
    """The known class that a class is derived from, else the first with such a network."""
    bases = [each.__name__ for each in pipeline_type.__mro__]
    base = next((PIPELINES[each] for each in bases if each in PIPELINES), None)
    families = [known for known in PIPELINES.values() if network in _networks(known.family.name)]
    return base or next(iter(families), None)


def _family(network: str) -> str:
    """Name of the family of `sencache` that has a transformer class; "" for none."""
    from sencache.extension import FAMILIES

    return next((each.name for each in FAMILIES if network in each.classes), "")


def _networks(family: str) -> frozenset[str]:
    """Names of the transformer classes of a family of `sencache`."""
    from sencache.extension import FAMILIES

    return frozenset(name for each in FAMILIES if each.name == family for name in each.classes)


def _signature_defaults(
    parameters: Mapping[str, inspect.Parameter], like: SamplingDefaults
) -> SamplingDefaults:
    """The defaults of a call, and those of a class like it where the call has none."""
    names = ("width", "height", "num_inference_steps", "max_sequence_length")
    called = [(name, name) for name in names]
    called += [("num_frames", name) for name in _FRAMES]
    called += [("guidance_scale", name) for name in _GUIDANCE]
    changes: dict[str, Any] = {}
    for name, argument in called:
        parameter = parameters.get(argument)
        if parameter is None or not isinstance(parameter.default, int | float):
            continue
        if argument != "true_cfg_scale" or parameter.default > 1.0:
            changes[name] = parameter.default
    for name in _SPEED:
        if name in parameters and isinstance(parameters[name].default, int | float):
            changes["fps"] = round(parameters[name].default)
    changes["negative_prompt"] = like.negative_prompt if "negative_prompt" in parameters else ""
    return dataclasses.replace(like, **changes)


def _unknown(saved: SavedPipeline, reason: str) -> UserError:
    """The error of a pipeline class that nothing here can run."""
    return UserError(
        f"model_path {saved.where} holds a {saved.class_name}, which is not known ({reason}): "
        f"{HOW_TO_DESCRIBE}. Known are {', '.join(PIPELINES)}"
    )
