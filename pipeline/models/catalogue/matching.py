"""From a saved pipeline to a `ModelSpec`: its class, its sampler, its sizes, its defaults.

The class is known, renamed, or described from its call's signature. Defaults are those of the
registered model whose network is most alike. Every choice is said in one line. Loads torch and
diffusers only for a class that the registry does not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.models.catalogue.conditions import with_last_image
from pipeline.models.catalogue.saved_pipeline import SavedPipeline
from pipeline.models.catalogue.saved_sizes import sizes_of, text_length_of
from pipeline.models.catalogue.unlisted import TILED_ONLY
from pipeline.models.registry import MODELS, PIPELINES
from pipeline.models.spec import ModelSpec, PipelineClass, SamplingDefaults
from pipeline.prompts.condition_columns import MediaCondition
from pipeline.wording import counted

UNKNOWN_LICENCE = "not stated: see the model's card"


def spec_of(
    saved: SavedPipeline, shown_as: str = "", known: PipelineClass | None = None
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Describe the model in a saved pipeline.

    Args:
        saved: Its configurations.
        shown_as: Name in rows; "" for its own.
        known: Its class, if the user describes it.

    Returns:
        The model, without a place, and what was chosen how, a line each.

    Raises:
        UserError: Its class is not known and cannot be described from its signature.
    """
    notes = []
    if known is None:
        known, note = pipeline_class_of(saved)
        notes += [note] if note else []
    if known.conditions:
        notes.append(_columns(known.conditions))
    model, exact = most_alike(saved, known)
    defaults, note = _defaults(saved, known, model, exact)
    notes.append(note)
    sizes = sizes_of(saved.configs, known.sizes)
    if model is not None and exact:
        sizes = model.sizes
    like = model or _stranger(known)
    spec = dataclasses.replace(
        like,
        name=shown_as or saved.name,
        pipeline=known,
        hub_id="",
        revision="",
        licence=UNKNOWN_LICENCE,
        defaults=defaults,
        profile="",
        two_networks=bool(saved.part_class("transformer_2")),
        own_sizes=sizes,
        text_length=text_length_of(saved.configs),
        registered=False,
    )
    return spec, tuple(notes)


def _with_guidance(known: PipelineClass, saved: SavedPipeline) -> PipelineClass:
    """Return a class whose guidance is distilled, as it samples a network where it is not."""
    embeds = saved.configs.get("transformer", {}).get("guidance_embeds", True)
    if embeds or not known.distilled_guidance:
        return known
    names = {**known.argument_names, "guidance_scale": "true_cfg_scale"}
    return dataclasses.replace(
        known, distilled_guidance=False, argument_names=names, text_embeddings=()
    )


def _columns(conditions: Sequence[MediaCondition]) -> str:
    """Say what files a row names besides its prompt."""
    needed = [each.column for each in conditions if each.required]
    others = [each.column for each in conditions if not each.required]
    parts = [f"needs {' and '.join(needed)}"] if needed else []
    parts += [f"may have {', '.join(others)}"] if others else []
    return f"each row {' and '.join(parts)}, as files"


def pipeline_class_of(saved: SavedPipeline) -> tuple[PipelineClass, str]:
    """Find the class of a saved pipeline.

    Returns:
        The class, and a line about how it was found; "" where the registry knows its name.

    Raises:
        UserError: It is unknown.
    """
    name = saved.class_name
    if name in PIPELINES:
        return _with_guidance(with_last_image(PIPELINES[name], saved), saved), ""
    for known in PIPELINES.values():
        if name in known.saved_as:
            return known, ""
    from pipeline.models.catalogue import signature

    if found := signature.same_parts(saved):
        return found, f"{name} is no class of diffusers; its parts are those of {found.name}"
    return signature.described(saved)


def most_alike(saved: SavedPipeline, known: PipelineClass) -> tuple[ModelSpec | None, bool]:
    """Return the registered model of a class whose network is most like a saved one.

    Returns:
        The model, None if none has anything in common; and whether its whole shape is the same.
    """
    network = saved.configs.get("transformer", {})
    two = bool(saved.part_class("transformer_2"))

    def agreement(spec: ModelSpec) -> float:
        same = [network.get(name) == value for name, value in spec.network_shape.items()]
        same += [spec.two_networks == two]
        return sum(same) / len(same) if any(same[:-1]) else 0.0

    named = [spec for spec in MODELS.values() if spec.pipeline.name == known.name]
    best = max(named, key=agreement, default=None)
    if best is None or agreement(best) == 0.0:
        return None, False
    return best, agreement(best) == 1.0


def _defaults(
    saved: SavedPipeline, known: PipelineClass, model: ModelSpec | None, exact: bool
) -> tuple[SamplingDefaults, str]:
    """Return the sampling defaults of a saved pipeline, and a line about their sources."""
    own = model.defaults if model else known.defaults
    if model:
        alike = "has this network" if exact else "has the network most like it"
        source = f"defaults of {model.name}, which {alike}"
    else:
        source = f"defaults of the class {known.name}"
    scheduler = saved.configs.get("scheduler", {})
    sampler = saved.part_class("scheduler") or own.sampler
    said = f"sampler {sampler} as saved"
    if sampler in known.family.random_samplers:
        usable = [
            each for each in known.family.samplers if each not in known.family.random_samplers
        ]
        said = f"sampler {usable[0]}, for the saved {sampler} is random and takes no cache plan"
        sampler = usable[0]
    shift, small = own.flow_shift, own.small_shift
    stated = _shift(scheduler)
    if known.family.scheduler_settings is not None:
        shift = None
    elif not exact and sampler == saved.part_class("scheduler"):
        shift, small = stated, None
        said += f", shift {stated:g} as saved" if stated is not None else ""
    elif stated is not None and shift is not None and stated != shift:
        said += f", shift {shift:g} (saved is {stated:g}: --sampling.flow-shift {stated:g})"
    changes: dict[str, Any] = {"sampler": sampler, "flow_shift": shift, "small_shift": small}
    if (length := text_length_of(saved.configs)) is not None:
        changes["max_sequence_length"] = length
    if not saved.part_class("transformer_2"):
        changes["guidance_scale_2"] = None
    elif own.guidance_scale_2 is None:
        changes["guidance_scale_2"] = own.guidance_scale
    size = f"{own.width}x{own.height}x{own.num_frames}"
    line = (
        f"{source}: {size}, {counted(own.num_inference_steps, 'step')}, "
        f"guidance {own.guidance_scale:g}; {said}"
    )
    return dataclasses.replace(own, **changes), line


def _shift(scheduler: Mapping[str, Any]) -> float | None:
    """Flow shift of a saved scheduler; None where it follows from the size."""
    if scheduler.get("use_dynamic_shifting"):
        return None
    found = scheduler.get("flow_shift", scheduler.get("shift"))
    return float(found) if isinstance(found, int | float) else None


def _stranger(known: PipelineClass) -> ModelSpec:
    """A model of a class of which the registry has none."""
    return ModelSpec(
        name="",
        pipeline=known,
        hub_id="",
        revision="",
        licence=UNKNOWN_LICENCE,
        dtype="bfloat16",
        defaults=known.defaults,
        sources=known.sources,
        vae_tiling=known.family.name in TILED_ONLY,
    )
