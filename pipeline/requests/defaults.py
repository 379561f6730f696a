"""The defaults that every request of a run inherits from its settings and its model.

Runs on the driver before any worker starts and checks the settings against the model, so that every
mistake in them is reported here, once, in one line. Loads neither torch nor diffusers.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.calibration.chosen_profile import choose_profile
from pipeline.calibration.measurement import ChosenProfile
from pipeline.errors import UserError
from pipeline.models.adapters import resolve_adapters
from pipeline.models.call import check_call
from pipeline.models.engine_options import settle_options
from pipeline.models.samplers import check_sampler, check_takes_sigmas, sampler_name
from pipeline.models.spec import ModelSpec, ResolvedModel, SamplingDefaults
from pipeline.parallel.layout import choose_layout
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.sample_request import UNMEASURED, CacheIdentity, SampleRequest
from pipeline.said_once import warn_once
from pipeline.storage.storage import Storage
from pipeline.wording import are
from sencache.measuring import prior_profile

if TYPE_CHECKING:
    from pipeline.config.cache_section import CacheConfig
    from pipeline.config.run_config import RunConfig
    from sencache import SensitivityProfile

logger = logging.getLogger(__name__)


def request_defaults(
    config: RunConfig, model: ResolvedModel, storage: Storage | None = None, *, measure: bool = True
) -> RequestDefaults:
    """Return what a row inherits unless it says otherwise.

    Args:
        config: The run's settings.
        model: The model.
        storage: The output prefix, which may hold a profile of its own; None: there is none.
        measure: Whether the run can measure one.

    Raises:
        UserError: The model does not support a setting; the text names the flag.
        StorageError: The prefix cannot be read.
    """
    _check_tries(config)
    spec = model.spec
    check_call(config, spec)
    layout = choose_layout(config.parallel, spec, config.device)
    controls = config.control_fraction > 0.0
    settle_options(config.engine, config.stages, spec, layout, config.device, controls=controls)
    template = _template(config, model)
    chosen = choose_profile(config.cache, model, template, storage, measure=measure)
    template = dataclasses.replace(template, cache=_identity(config.cache, model, chosen))
    if config.cache.policy == "planned":
        _check_plan(template, model, config.cache)
    elif config.best_of > 1:
        raise UserError(
            f"--best-of {config.best_of}: drafts are planned clips with a smaller budget, and the "
            f"policy of this run is {config.cache.policy}; use --cache.policy planned, or leave "
            "--best-of out"
        )
    if chosen.profile is not None and chosen.source in ("given", "shipped"):
        _warn_of_distance(chosen.profile, template, model)
    if layout.cfg > 1 and template.guidance_scale <= 1.0:
        warn_once(
            logger,
            f"--parallel.cfg {layout.cfg} shares out two branches of guidance, and guidance is off "
            f"(--sampling.guidance-scale {template.guidance_scale:g}): both halves of a group "
            "compute the same",
        )
    off = template.guidance_scale <= 1.0 and not model.spec.pipeline.distilled_guidance
    if off and config.sampling.negative_prompt:
        warn_once(
            logger,
            "--sampling.negative-prompt is not read where guidance is off "
            f"(--sampling.guidance-scale {template.guidance_scale:g}): only rows that turn it on "
            "have it",
        )
    if controls and template.quantisation:
        logger.info(
            "controls are made in full precision (--engine.quantize %s): each model copy keeps its "
            "networks unquantised in host memory too, and they take the place of the quantised "
            "ones on the device while a control is made",
            template.quantisation,
        )
    elif controls and template.cache.policy == "none":
        raise UserError(
            f"--control-fraction {config.control_fraction:g} makes uncached twins of cached clips, "
            "and this run caches nothing: choose a cache, e.g. --cache.quality balanced, or set it "
            "to 0"
        )
    return RequestDefaults(
        template,
        config.sampling.seed,
        spec.sizes,
        spec.conditions,
        spec.pipeline.distilled_guidance,
        functools.partial(_steps_problem, config.cache, len(template.sigmas)),
        chosen,
        _sampler_at(config, spec, template.sampler),
    )


def _sampler_at(
    config: RunConfig, spec: ModelSpec, sampler: str
) -> Callable[[int, int], str] | None:
    """How the sampler of a row follows from its size; None where it does not."""
    given = config.sampling
    if spec.defaults.small_shift is None or given.flow_shift is not None or given.sigmas:
        return None
    return functools.partial(_sampler_of_size, spec.defaults, sampler.partition("/")[0])


def _sampler_of_size(defaults: SamplingDefaults, class_name: str, width: int, height: int) -> str:
    return sampler_name(class_name, defaults.shift_at(width, height))


def _check_tries(config: RunConfig) -> None:
    """Refuse settings of redraws and drafts that lack one another, or contradict."""
    if config.redraw and not config.keep:
        needs = 'needs --keep, which says what a good clip has, as --keep "cuts = 0"'
        raise UserError(f"--redraw {config.redraw} {needs}")
    if config.best_of > 1 and config.redraw:
        raise UserError(
            f"--best-of {config.best_of} and --redraw {config.redraw} choose among seeds in two "
            "ways: leave one of them out"
        )
    if config.best_of > 1 and not config.select_by:
        raise UserError(
            f"--best-of {config.best_of} needs --select-by, which says what the best draft has "
            'most of, as --select-by "sharpness - flicker"'
        )
    if config.best_of == 1 and (config.select_by or config.keep_drafts or config.draft_frames):
        other = "--keep-drafts stores" if config.keep_drafts else "--draft-frames scores"
        first = "--select-by chooses among" if config.select_by else other
        raise UserError(f"{first} drafts: give --best-of with their number")


def _warn_of_distance(
    profile: SensitivityProfile, template: SampleRequest, model: ResolvedModel
) -> None:
    """Say once where a run is far from what its profile was measured with."""
    sampler, shift = check_sampler(template.sampler, model.spec.family)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        profile.check(
            sampler=sampler,
            shift=shift,
            num_inference_steps=template.num_inference_steps,
            guided=template.guidance_scale > 1.0,
            size=(template.width, template.height, template.num_frames),
            adapters=template.adapters,
        )
    for each in found:
        warn_once(logger, str(each.message))


def _identity(cache: CacheConfig, model: ResolvedModel, chosen: ChosenProfile) -> CacheIdentity:
    """What of the cache decides the pixels; `UNMEASURED` where the profile is still to come."""
    settings = cache.to_sencache()
    if not chosen.is_pending:
        return CacheIdentity.of(settings, chosen.profile)
    # Nothing but the hash of the profile goes into the identity, so any profile shows the rest.
    like = CacheIdentity.of(settings, prior_profile(model.spec.pipeline.prediction))
    return dataclasses.replace(like, profile=UNMEASURED)


@functools.lru_cache(maxsize=1024)
def _steps_problem(cache: CacheConfig, listed: int, steps: int) -> str:
    """Say why a row cannot have a number of steps; "" if it can.

    Args:
        cache: The run's caching settings, whose gate needs room.
        listed: Number of noise levels that the run lists; 0 if it lists none.
        steps: What the row asks for.
    """
    if listed and steps != listed:
        return (
            f"num_inference_steps {steps}: the run lists {listed} noise levels, one a step "
            "(--sampling.sigmas); leave the column out"
        )
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
    random = model.spec.family.random_samplers
    if class_name in random:
        others = " or ".join(each for each in model.spec.family.samplers if each not in random)
        raise UserError(
            f"cache.policy planned: {class_name} is random, so no plan can be made for it; "
            f"use --sampling.sampler {others}, or --cache.policy paper, which decides step by step"
        )


def _template(config: RunConfig, model: ResolvedModel) -> SampleRequest:
    spec = model.spec
    adapters = resolve_adapters(config.engine.adapters)
    if without := len(config.engine.adapters) - len(adapters):
        left_out = f"{without} of weight 0 {are(without)} left out"
        warn_once(logger, f"--engine.adapters: {left_out}, as nothing would change by it")
    given = config.sampling.model_dump(exclude={"seed", "sigmas"}, exclude_none=True)
    own = spec.defaults
    settings: dict[str, Any] = dataclasses.asdict(own) | given
    del settings["small_shift"]
    if "flow_shift" not in given:
        settings["flow_shift"] = own.shift_at(settings["width"], settings["height"])
    if settings["guidance_scale_2"] is not None:
        if own.guidance_scale_2 is None:
            raise UserError(
                f"--sampling.guidance-scale-2: {spec.name} has one network; leave it out"
            )
        settings["guidance_scale_2"] = float(settings["guidance_scale_2"])
    settings["guidance_scale"] = float(settings["guidance_scale"])
    sigmas = tuple(config.sampling.sigmas or ())
    if sigmas:
        settings["num_inference_steps"] = _count_of(sigmas, given.get("num_inference_steps"))
        settings["flow_shift"] = given.get("flow_shift")
    sampler = sampler_name(settings.pop("sampler"), settings.pop("flow_shift"))
    try:
        check_sampler(sampler, spec.family)
        if sigmas:
            check_takes_sigmas(sampler)
    except UserError as error:
        raise UserError(f"--sampling.sampler, --sampling.flow-shift: {error}") from error
    size = (settings["width"], settings["height"], settings["num_frames"])
    problem = spec.sizes.problem(*size)
    if problem:
        raise UserError(
            f"{spec.name} cannot make this size: {problem} "
            "(--sampling.width, --sampling.height, --sampling.num-frames)"
        )
    if settings["negative_prompt"] and spec.pipeline.distilled_guidance:
        raise UserError(
            f"--sampling.negative-prompt: {spec.name} reads none (its guidance is distilled); "
            "leave it out"
        )
    return SampleRequest(
        **settings,
        prompt="",
        model=spec.name,
        model_class="" if spec.registered else spec.identity_name,
        model_revision=model.revision,
        sampler=sampler,
        seed=0,
        adapters=tuple(adapter.identity for adapter in adapters),
        dtype=spec.other_dtype(config.dtype, config.device),
        decoding=_decoding(config, spec),
        sigmas=sigmas,
        candidates=1 + config.redraw,
        safety_checker="" if config.engine.safety_checker == "own" else "off",
        quantisation="" if config.engine.quantize == "none" else config.engine.quantize,
    )


def _count_of(sigmas: Sequence[float], steps: int | None) -> int:
    """The number of steps of a list of noise levels."""
    if steps not in (None, len(sigmas)):
        raise UserError(
            f"--sampling.num-inference-steps {steps}: --sampling.sigmas lists {len(sigmas)} noise "
            "levels, one a step; leave one of the two out"
        )
    return len(sigmas)


def _decoding(config: RunConfig, spec: ModelSpec) -> str:
    """Say how frames are decoded, "" for the way of the model's authors."""
    asked = config.engine.vae_tiling
    tiling = spec.tiled if asked is None else asked
    if tiling == spec.vae_tiling:
        return ""
    return "tiled" if tiling else "whole"
