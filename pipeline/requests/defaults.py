"""The defaults that every request of a run inherits from its settings and its model.

Runs on the driver before any worker starts and checks the settings against the model, so that every
mistake in them is reported here, once, in one line. Loads neither torch nor diffusers.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.models.adapters import resolve_adapters
from pipeline.models.engine_options import settle_options
from pipeline.models.profile import load_profile
from pipeline.models.samplers import check_sampler, sampler_name
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.parallel.layout import choose_layout
from pipeline.requests.from_row import RequestDefaults, size_problem
from pipeline.requests.sample_request import CacheIdentity, SampleRequest

if TYPE_CHECKING:
    from pipeline.config.cache_section import CacheConfig
    from pipeline.config.run_config import RunConfig

logger = logging.getLogger(__name__)


def request_defaults(config: RunConfig, model: ResolvedModel) -> RequestDefaults:
    """Return what a row inherits unless it says otherwise.

    Raises:
        UserError: The model does not support a setting; the text names the flag.
    """
    layout = choose_layout(config.parallel, model.spec, config.device)
    settle_options(config.engine, model.spec, layout, config.device)
    profile = load_profile(config.cache, model)
    template = _template(config, model, CacheIdentity.of(config.cache.to_sencache(), profile))
    if profile is not None:
        measured = sampler_name(profile.metadata.sampler, profile.metadata.shift)
        if measured != template.sampler:
            planned = config.cache.policy == "planned"
            logger.warning(
                "the sensitivity profile was measured with sampler %s, this run uses %s: %s",
                measured,
                template.sampler,
                "the plan may fit less well"
                if planned
                else "the same cache.epsilon may give another number of steps",
            )
        if config.cache.policy == "planned":
            _check_plan(template, model, config.cache)
    if layout.cfg > 1 and template.guidance_scale <= 1.0:
        logger.warning(
            "--parallel.cfg %d shares out two branches of guidance, and guidance is off "
            "(--sampling.guidance-scale %g): both halves of a group compute the same",
            layout.cfg,
            template.guidance_scale,
        )
    off = template.guidance_scale <= 1.0 and not model.spec.family.distilled_guidance
    if off and config.sampling.negative_prompt:
        logger.warning(
            "--sampling.negative-prompt is not read where guidance is off "
            "(--sampling.guidance-scale %g): only rows that turn it on have it",
            template.guidance_scale,
        )
    if config.control_fraction and template.cache.policy == "none":
        raise UserError(
            f"--control-fraction {config.control_fraction:g} makes uncached twins of cached clips, "
            "and this run caches nothing: choose a cache, e.g. --cache.quality balanced, or set it "
            "to 0"
        )
    spec = model.spec
    return RequestDefaults(
        template,
        config.sampling.seed,
        spec.size_multiple,
        spec.frame_stride,
        spec.takes_image,
        spec.min_frames,
        spec.family.distilled_guidance,
        functools.partial(_gate_problem, config.cache),
    )


@functools.lru_cache(maxsize=1024)
def _gate_problem(cache: CacheConfig, steps: int) -> str:
    """Say why no gate can be had with a number of steps; "" if it can, or none is asked for."""
    if cache.policy != "planned" or not cache.gate or cache.planned_nfe(steps)[0] >= steps:
        return ""
    try:
        cache.check_gate(steps)
    except ValueError as error:
        return f"num_inference_steps {steps}: {error}"
    return ""


def _check_plan(template: SampleRequest, model: ResolvedModel, cache: CacheConfig) -> None:
    """Refuse a gate or a sampler for which no plan can be made."""
    if cache.gate and model.spec.two_networks:
        raise UserError(
            f"cache.gate {cache.gate}: {model.spec.name} has two networks, and a gate is for "
            "models with one; leave it out"
        )
    try:
        cache.check_gate(template.num_inference_steps)
    except ValueError as error:
        raise UserError(f"cache.gate: {error}") from error
    class_name, _ = check_sampler(template.sampler, model.spec.family)
    if class_name in model.spec.family.random_samplers:
        raise UserError(
            f"cache.policy planned: {class_name} is random, so no plan can be made for it; "
            "use another --sampling.sampler, or --cache.policy paper"
        )


def _template(config: RunConfig, model: ResolvedModel, cache: CacheIdentity) -> SampleRequest:
    spec = model.spec
    given = config.sampling.model_dump(exclude={"seed"}, exclude_none=True)
    settings: dict[str, Any] = dataclasses.asdict(spec.defaults) | given
    settings["guidance_scale"] = float(settings["guidance_scale"])
    sampler = sampler_name(settings.pop("sampler"), settings.pop("flow_shift"))
    try:
        check_sampler(sampler, spec.family)
    except UserError as error:
        raise UserError(f"--sampling.sampler, --sampling.flow-shift: {error}") from error
    size = (settings["width"], settings["height"], settings["num_frames"])
    problem = size_problem(*size, spec.size_multiple, spec.frame_stride, spec.min_frames)
    if problem:
        raise UserError(
            f"{spec.name} cannot make this size: {problem} "
            "(--sampling.width, --sampling.height, --sampling.num-frames)"
        )
    if settings["negative_prompt"] and spec.family.distilled_guidance:
        raise UserError(
            f"--sampling.negative-prompt: {spec.name} reads none (its guidance is distilled); "
            "leave it out"
        )
    return SampleRequest(
        **settings,
        prompt="",
        model=spec.name,
        model_revision=model.revision,
        sampler=sampler,
        seed=0,
        cache=cache,
        adapters=tuple(adapter.identity for adapter in resolve_adapters(config.engine.adapters)),
        dtype=config.dtype,
        decoding=_decoding(config, spec),
    )


def _decoding(config: RunConfig, spec: ModelSpec) -> str:
    """Say how frames are decoded, "" for the model's default."""
    tiling = config.engine.vae_tiling
    if tiling is None or tiling == spec.vae_tiling:
        return ""
    return "tiled" if tiling else "whole"
