"""From a run's settings to picklable factories of its engines and text encoders.

The factories are made on the driver, without torch or diffusers, and called once in each actor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.calibration.measurement import ChosenProfile
from pipeline.engine.protocol import Engine, EngineFactory, TextEncoder
from pipeline.models.adapters import resolve_adapters
from pipeline.models.engine_options import settle_options
from pipeline.models.memory.preflight import LargestCall
from pipeline.models.profile import leave_to_driver, load_profile
from pipeline.models.quantisation.quantise import quiet_libraries
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.layout import choose_layout
from pipeline.process import set_allocator

if TYPE_CHECKING:
    from pipeline.config.run_config import RunConfig


def engine_factory(
    config: RunConfig,
    model: ResolvedModel,
    *,
    device: str = "",
    threads: int = 0,
    chosen: ChosenProfile | None = None,
    largest: LargestCall | None = None,
) -> EngineFactory:
    """What makes an actor's engine; picklable, and needs no file of the driver's node.

    Args:
        config: The run's settings.
        model: The resolved model.
        device: The device that the cluster offers; "" takes the configured one.
        threads: CPU threads of torch in the actor; 0 leaves them.
        chosen: The run's profile; None takes the one that is given, shipped, or the prior.
        largest: The largest call of the run, to be tried when the model is loaded.

    Raises:
        UserError: The sensitivity profile cannot be used.
    """
    profile = chosen.profile if chosen else load_profile(config.cache, model)
    profile_json = profile.to_json() if profile else ""
    device = device or config.device
    layout = choose_layout(config.parallel, model.spec, device)
    adapters = resolve_adapters(config.engine.adapters)
    controls = config.control_fraction > 0.0
    options = settle_options(
        config.engine,
        config.stages,
        model.spec,
        layout,
        device,
        adapters,
        controls=controls,
        save=config.save,
    )
    given = config.sampling
    steps = len(given.sigmas or ()) or given.num_inference_steps
    steps = steps or model.spec.defaults.num_inference_steps
    if layout.size > 1:
        from pipeline.ranks.group_engine import LoadRank, load_group

        share = max(1, threads // layout.size)
        load = LoadRank(
            model, layout, device, config.dtype, profile_json, share, options, largest, steps
        )
        return functools.partial(load_group, load)
    return functools.partial(
        _load_engine,
        model,
        device=device,
        dtype=config.dtype,
        profile_json=profile_json,
        threads=threads,
        options=options,
        largest=largest,
        steps=steps,
    )


def text_factory(config: RunConfig, model: ResolvedModel, device: str) -> Callable[[], TextEncoder]:
    """What makes the encoder of an actor of the text stage; picklable.

    Args:
        config: The run's settings.
        model: The resolved model.
        device: Device of the groups; the encoder has the precision that it would have there.
    """
    own = "cuda" if device == "cuda" and config.stages.text_gpus else "cpu"
    dtype = config.dtype or (model.spec.dtype if device == "cuda" else "")
    threads = config.stages.text_cpus if own == "cpu" else 0
    return functools.partial(_load_text_encoder, model, own, dtype, threads)


# These two run in actors. The driver only names them and does not have to import torch.


def _load_engine(model: ResolvedModel, **settings: Any) -> Engine:
    set_allocator()
    quiet_libraries()  # before the import, which brings diffusers
    leave_to_driver(settings.pop("steps", 0))
    from pipeline.engine.diffusers_engine import load_engine
    from pipeline.models.memory.tried_engine import TriedEngine

    engine = load_engine(model, **settings)
    if model.parts == "all" or not engine.on_gpu:
        return engine
    calls = 2 if settings["options"].decode_beside else 1
    return TriedEngine(engine, settings["largest"], model.spec, calls)


def _load_text_encoder(model: ResolvedModel, device: str, dtype: str, threads: int) -> TextEncoder:
    set_allocator()
    quiet_libraries()
    from pipeline.models.text_encoders import load_text_encoder

    return load_text_encoder(model, device, dtype, threads)
