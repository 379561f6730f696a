"""Describes a pipeline class that the registry does not know, as far as its signature tells.

For classes of diffusers whose network belongs to a known family, and for classes whose name is
unknown but whose parts are those of a known class. Imports diffusers, never code from a model.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.catalogue.saved_sizes import sizes_of
from pipeline.models.registry import PIPELINES
from pipeline.models.spec import (
    STANDARD_ARGUMENTS,
    Condition,
    PipelineClass,
    SamplingDefaults,
)
from pipeline.requests.sample_request import SampleRequest

HOW_TO_DESCRIBE = "describe it with --model-spec FILE.yaml (docs/models.md has an example)"

_SPEED = ("frame_rate", "fps")
"""Names under which calls take the frames per second."""

_INPUTS = frozenset(
    {
        *("video", "control_video", "mask", "mask_video", "pose_video", "face_video"),
        *("reference_images", "conditions", "control_image", "last_image", "negative_video"),
    }
)
"""Inputs of calls that a signature alone does not explain."""

_OPTIONAL = frozenset({"last_image"})


@dataclass(frozen=True, slots=True)
class _SpeedArgument:
    """The frames per second, under the name that a call gives to them; "" for none."""

    name: str

    def __call__(self, request: SampleRequest) -> dict[str, Any]:
        return {self.name: request.fps} if self.name else {}


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
    bases = [each.__name__ for each in pipeline_type.__mro__]
    base = next((PIPELINES[each] for each in bases if each in PIPELINES), None)
    families = [known for known in PIPELINES.values() if network in _networks(known.family.name)]
    if base is None and not families:
        raise _unknown(saved, f"its network {network or '(none)'} is of no known family")
    like = base or families[0]
    parameters = dict(inspect.signature(pipeline_type.__call__).parameters)
    inputs = sorted((_INPUTS - _OPTIONAL) & parameters.keys())
    if inputs or "prompt" not in parameters:
        raise _unknown(saved, f"its call takes {', '.join(inputs) or 'no prompt'}")
    if "num_frames" not in parameters:
        raise _unknown(saved, "its call takes no num_frames")
    conditions: tuple[Condition, ...] = ("image",) if "image" in parameters else ()
    known = PipelineClass(
        name=name,
        family=like.family,
        sizes=sizes_of(saved.configs, like.sizes),
        defaults=_signature_defaults(parameters, like.defaults),
        sources={"*": f"signature of {name} in diffusers {diffusers.__version__}"},
        text_embeddings=(),
        conditions=conditions,
        prediction=like.prediction,
        distilled_guidance="negative_prompt" not in parameters or "true_cfg_scale" in parameters,
        call_arguments=_SpeedArgument(next((each for each in _SPEED if each in parameters), "")),
        argument_names={each: "" for each in STANDARD_ARGUMENTS if each not in parameters},
    )
    line = (
        f"{name} is not in the registry: it runs as its call's signature says, with the networks "
        f"of the {known.family.name} family"
    )
    return known, line


def _networks(family: str) -> frozenset[str]:
    """Names of the transformer classes of a family of `sencache`."""
    from sencache.extension import FAMILIES

    return frozenset(name for each in FAMILIES if each.name == family for name in each.classes)


def _signature_defaults(
    parameters: Mapping[str, inspect.Parameter], like: SamplingDefaults
) -> SamplingDefaults:
    """The defaults of a call, and those of a class like it where the call has none."""
    names = ("width", "height", "num_frames", "num_inference_steps", "guidance_scale")
    changes: dict[str, Any] = {}
    for name in (*names, "max_sequence_length"):
        parameter = parameters.get(name)
        if parameter is not None and isinstance(parameter.default, int | float):
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
