"""From a configuration and a model to what every request inherits and how engines are made.

Runs on the driver before any worker starts, so everything that can be wrong with the settings of a
model is said here, once, in one line. Importing it is cheap, and what it reads loads neither
torch nor diffusers: only making engines does.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.engine.protocol import Engine, EngineFactory
from pipeline.errors import UserError
from pipeline.models.adapters import resolve_adapters
from pipeline.models.call import takes_negative_prompt
from pipeline.models.engine_options import settle_options
from pipeline.models.registry import shipped_folder
from pipeline.models.samplers import RANDOM_SAMPLERS, check_sampler, sampler_name
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.parallel.layout import choose_layout
from pipeline.requests.cache_spec import check_gate, to_spec
from pipeline.requests.from_row import RequestDefaults, size_problem
from pipeline.requests.sample_request import CacheSpec, SampleRequest
from pipeline.storage.storage import locate
from sencache import SenCacheConfig, SensitivityProfile

if TYPE_CHECKING:
    from pipeline.cluster.text_stage import Encode
    from pipeline.config.run_config import RunConfig
    from pipeline.config.sections import CacheConfig

logger = logging.getLogger(__name__)


def request_defaults(config: RunConfig, model: ResolvedModel) -> RequestDefaults:
    """What a row inherits when it does not say otherwise.

    Raises:
        UserError: A setting that this model cannot follow; the text names the flag.
    """
    layout = choose_layout(config.parallel, model.spec, config.device)
    settle_options(config.engine, model.spec, layout, config.device)
    profile = load_profile(config.cache, model)
    template = _template(config, model, cache_spec(config.cache, profile))
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
    )


def engine_factory(
    config: RunConfig, model: ResolvedModel, *, device: str = "", threads: int = 0
) -> EngineFactory:
    """How an actor makes its engine; picklable, with everything in it that a node may not have.

    Args:
        config: The run's settings.
        model: The resolved model.
        device: What the cluster decided on; "" takes the configured one.
        threads: CPU threads of torch in the actor; 0 leaves them.

    Raises:
        UserError: The sensitivity profile cannot be used.
    """
    profile = load_profile(config.cache, model)
    profile_json = profile.to_json() if profile else ""
    device = device or config.device
    layout = choose_layout(config.parallel, model.spec, device)
    adapters = resolve_adapters(config.engine.adapters)
    knobs = settle_options(config.engine, model.spec, layout, device, adapters)
    if layout.size > 1:
        from pipeline.ranks.group_engine import LoadRank, load_group

        share = max(1, threads // layout.size)
        load = LoadRank(model, layout, device, config.dtype, profile_json, share, knobs)
        return functools.partial(load_group, load)
    return functools.partial(
        _load_engine,
        model,
        device=device,
        dtype=config.dtype,
        profile_json=profile_json,
        threads=threads,
        knobs=knobs,
    )


def text_factory(config: RunConfig, model: ResolvedModel, device: str) -> Callable[[], Encode]:
    """How an actor of the text stage makes its encoder; picklable.

    Args:
        config: The run's settings.
        model: The resolved model.
        device: Of the groups: the encoder has the precision that it would have there.
    """
    own = "cuda" if device == "cuda" and config.stages.text_gpus else "cpu"
    dtype = config.dtype or (model.spec.dtype if device == "cuda" else "")
    threads = config.stages.text_cpus if own == "cpu" else 0
    return functools.partial(_load_text_encoder, model, own, dtype, threads)


# These two run in actors. The driver, which only names them, shall not wait for torch.


def _load_engine(model: ResolvedModel, **settings: Any) -> Engine:
    from pipeline.engine.diffusers_engine import load_engine

    return load_engine(model, **settings)


def _load_text_encoder(model: ResolvedModel, device: str, dtype: str, threads: int) -> Encode:
    from pipeline.models.text_encoders import load_text_encoder

    return load_text_encoder(model, device, dtype, threads)


def cache_spec(config: CacheConfig, profile: SensitivityProfile | None) -> CacheSpec:
    """The part of the caching settings that decides pixels; `CacheSpec()` if nothing is reused."""
    return to_spec(sencache_config(config), profile)


def load_profile(config: CacheConfig, model: ResolvedModel) -> SensitivityProfile | None:
    """Read the sensitivity profile that the caching settings need.

    Returns:
        The profile, or None where no step can be reused.

    Raises:
        UserError: None is given nor shipped, or it was measured on another model.
        StorageError: The file cannot be read.
    """
    if not sencache_config(config).may_reuse:
        return None
    spec = model.spec
    where = config.profile or (str(shipped_folder(spec) / spec.profile) if spec.profile else "")
    if not where:
        raise UserError(
            f"cache.policy {config.policy} needs a sensitivity profile and none is shipped for "
            f"{spec.name}: measure one with jobs/calibrate.py and give it as --cache.profile, or "
            "use --cache.policy none"
        )
    storage, name = locate(where)
    try:
        profile = SensitivityProfile.from_json(storage.read_bytes(name).decode(), origin=where)
        _check_profile(profile, model)
        if config.policy == "planned" and profile.drift is None:
            raise UserError(
                f"cache.policy planned needs a profile with the drift of the output, and {where} "
                "was measured without: measure it anew with jobs/calibrate.py"
            )
    except ValueError as error:  # ProfileError, or bytes that are no text
        raise UserError(f"--cache.profile {where}: {error}") from error
    return profile


def _check_profile(profile: SensitivityProfile, model: ResolvedModel) -> None:
    """Refuse a profile of another model; warn where the revisions cannot be compared."""
    measured, mine = profile.metadata.revision, model.revision
    # A Hub commit and a content hash of files may well name the same weights; two of a kind do not.
    same_kind = len(measured) == len(mine)
    profile.check(
        model=model.spec.name,
        family=model.spec.family,
        revision=mine if same_kind else None,
    )
    if not same_kind:
        logger.warning(
            "the sensitivity profile was measured on revision %s, the weights are revision %s: "
            "make sure that they are the same weights",
            measured or "(none)",
            mine,
        )


def _check_plan(template: SampleRequest, model: ResolvedModel, cache: CacheConfig) -> None:
    """Refuse samplers that no plan can be made for, before a worker finds out."""
    try:
        check_gate(cache.gate, cache.budget or 1.0, template.num_inference_steps)
    except ValueError as error:
        raise UserError(f"cache.gate: {error}") from error
    class_name, _ = check_sampler(template.sampler, model.spec.family)
    if class_name in RANDOM_SAMPLERS:
        raise UserError(
            f"cache.policy planned: {class_name} is random, so what an output does in the end "
            "cannot be told; use another --sampling.sampler, or --cache.policy paper"
        )


def sencache_config(config: CacheConfig) -> SenCacheConfig:
    """The library's settings that a run's stand for."""
    # What is unset is of another policy.
    other = {"quality", "profile"}
    return SenCacheConfig(**config.model_dump(exclude=other, exclude_none=True))


def _template(config: RunConfig, model: ResolvedModel, cache: CacheSpec) -> SampleRequest:
    spec, own, given = model.spec, model.spec.defaults, config.sampling

    def pick(name: str) -> Any:
        value = getattr(given, name)
        return getattr(own, name) if value is None else value

    sampler = sampler_name(pick("sampler"), pick("flow_shift"))
    try:
        check_sampler(sampler, spec.family)
    except UserError as error:
        raise UserError(f"--sampling.sampler, --sampling.flow-shift: {error}") from error
    problem = size_problem(
        pick("width"),
        pick("height"),
        pick("num_frames"),
        spec.size_multiple,
        spec.frame_stride,
        spec.min_frames,
    )
    if problem:
        raise UserError(
            f"{spec.name} cannot make this size: {problem} "
            "(--sampling.width, --sampling.height, --sampling.num-frames)"
        )
    if pick("negative_prompt") and not takes_negative_prompt(spec):
        raise UserError(
            f"--sampling.negative-prompt: {spec.name} reads none (its guidance is distilled); "
            "leave it out"
        )
    return SampleRequest(
        prompt="",
        negative_prompt=pick("negative_prompt"),
        model=spec.name,
        model_revision=model.revision,
        sampler=sampler,
        num_inference_steps=pick("num_inference_steps"),
        guidance_scale=float(pick("guidance_scale")),
        width=pick("width"),
        height=pick("height"),
        num_frames=pick("num_frames"),
        fps=pick("fps"),
        max_sequence_length=pick("max_sequence_length"),
        seed=0,
        cache=cache,
        adapters=tuple(adapter.identity for adapter in resolve_adapters(config.engine.adapters)),
        dtype=config.dtype,
        decoding=_decoding(config, spec),
    )


def _decoding(config: RunConfig, spec: ModelSpec) -> str:
    """How frames are decoded, if not as the model does by itself."""
    asked = config.engine.vae_tiling
    if asked is None or asked == spec.vae_tiling:
        return ""
    return "tiled" if asked else "whole"
