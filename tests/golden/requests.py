"""The requests that are recorded: which model, which flags, which rows, and whether they are made.

Knows nothing of how clips are sampled or compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from tests.golden import names
from tests.golden.materials import Materials

Row = dict[str, Any]
ROW: Row = {"prompt": "a red circle moving left"}
ROWS: tuple[Row, ...] = (
    {"prompt": "a red circle moving left", "seed": 1},
    {"prompt": "a large blue square moving up", "seed": 2, "negative_prompt": "green"},
    {"prompt": "two yellow triangles", "seed": 3},
)
SMALL = {"width": 32, "height": 32, "num-frames": 9, "num-inference-steps": 8}
STEPS_24 = "--sampling.num-inference-steps=24"  # a gate needs room
POLICIES: Mapping[str, tuple[str, ...]] = {
    "none": ("--cache.policy=none",),
    "lossless": ("--cache.quality=lossless",),
    "high": ("--cache.quality=high",),
    "balanced": ("--cache.quality=balanced",),
    "fast": ("--cache.quality=fast",),
    "planned": ("--cache.policy=planned",),
    "error-0.005": ("--cache.max-error=0.005",),
    "budget-0.34": ("--cache.budget=0.34",),
    "budget-0.4": ("--cache.budget=0.4",),
    "budget-0.5": ("--cache.budget=0.5",),
    "budget-0.75": ("--cache.budget=0.75",),
    "budget-1": ("--cache.budget=1",),
    "order-0": ("--cache.budget=0.5", "--cache.order=0"),
    "order-2": ("--cache.budget=0.5", "--cache.order=2"),
    "order-3": ("--cache.budget=0.5", "--cache.order=3"),
    "no-repair": ("--cache.budget=0.5", "--no-cache.repair"),
    "gate-2": ("--cache.budget=0.5", "--cache.gate=2", STEPS_24),
    "gate-all-hard": ("--cache.budget=0.5", "--cache.gate=2", "--cache.gate-ratio=0", STEPS_24),
    "paper": (),
    "paper-0": ("--cache.epsilon=0",),
    "paper-0.05": ("--cache.epsilon=0.05", "--cache.strict-fraction=0"),
    "paper-0.3": ("--cache.epsilon=0.3",),
    "paper-1": ("--cache.epsilon=1", "--cache.max-reuse=1"),
    "paper-1-long": ("--cache.epsilon=1", "--cache.max-reuse=6", "--cache.strict-epsilon=1"),
    "paper-1.2": ("--cache.epsilon=1.2", "--cache.strict-fraction=0.1"),
    "strict": ("--cache.epsilon=1.2", "--cache.strict-fraction=0.5"),
    "correct": ("--cache.epsilon=0.2", "--cache.correct", "--cache.strict-fraction=0"),
    "correct-1": ("--cache.epsilon=1", "--cache.correct", "--cache.strict-fraction=0"),
    "own-verdict": ("--cache.epsilon=1", "--cache.uncond-verdict=own"),
}
"""Flags of every way to cache."""

LIBRARY: Mapping[str, Mapping[str, Any]] = {
    "residual": {"epsilon": 0.6, "reuse": "residual", "strict_fraction": 0.0},
    "final-2": {"epsilon": 1.0, "final_computed": 2, "strict_fraction": 0.0},
    "final-0": {"epsilon": 1.0, "final_computed": 0, "strict_fraction": 0.0},
    "buckets": {"epsilon": 1.0, "row_buckets": (1, 2, 4), "strict_fraction": 0.0},
}
"""Settings of the cache that only the library offers."""


@dataclass(frozen=True)
class Case:
    """Requests that agree in everything but their rows.

    Attributes:
        name: Of the record.
        model: Registry name.
        weights: `own` weights of the registry, `tiny` random ones, or `absent`: not sampled.
        flags: Of `jobs/generate.py`.
        rows: Input rows; sampled in one call.
        cache: Settings of the library in place of the run's.
        own_size: Whether the model's own size is kept; else the clip is a small one.
    """

    name: str
    model: str
    weights: Literal["own", "tiny", "absent"]
    flags: Sequence[str] = ()
    rows: Sequence[Row] = (ROW,)
    cache: Mapping[str, Any] = field(default_factory=dict)
    own_size: bool = False


TINY_LENGTH = 24
"""Text length of tiny weights: their position tables are built for it."""

TABLE_SIZE = {"width": 64, "height": 64}
"""The one size of tiny weights of CogVideoX, for the same reason."""


def settings_of(case: Case, materials: Materials) -> tuple[Any, names.ResolvedModel]:
    """The settings and the model of a case."""
    model = (materials.tiny if case.weights == "tiny" else materials.model)(case.model)
    flags = [f"--model={case.model}", "--device=cpu", "--prompts=p.txt", "--output=out"]
    sampling: dict[str, int] = {} if case.own_size else dict(SMALL)
    if case.weights == "tiny":
        sampling["max-sequence-length"] = model.spec.text_length or TINY_LENGTH
        sampling |= TABLE_SIZE if model.spec.family.name == "cogvideox" else {}
    flags += [f"--sampling.{name}={value}" for name, value in sampling.items()]
    if case.model != "demo":
        flags.append(f"--cache.profile={materials.profile(case.model, model.revision)}")
    given = {"{adapter}": materials.adapter} if any("{adapter}" in f for f in case.flags) else {}
    for flag in case.flags:
        name = flag.partition("=")[0]
        flags = [each for each in flags if each.partition("=")[0] != name]  # the case's own counts
        for word, path in given.items():
            flag = flag.replace(word, path)
        flags.append(flag)
    return names.load_settings(flags), model


def requests_of(case: Case, materials: Materials) -> list[names.SampleRequest]:
    """The requests of a case, in the order of its rows."""
    settings, model = settings_of(case, materials)
    defaults = names.request_defaults(settings, model)
    if case.cache:
        config, profile = names.SenCacheConfig(**case.cache), cast(Any, None)
        if config.policy == "official":
            profile = names.OfficialProfile((999, 500, 20), (9.0, 4.0, 2.0), (0.5, 2.0, 4.0), "wan")
        elif case.model == "demo":
            profile = names.shipped_profile()
        cache = names.cache_identity(config, profile)
        defaults = dataclasses.replace(
            defaults, template=dataclasses.replace(defaults.template, cache=cache)
        )
    rows = list(case.rows)
    if model.spec.conditions:
        rows = [{"image": materials.image, **row} for row in rows]
    intake = names.requests_of(
        [names.SourceRow(f"p.txt:{number}", row, "") for number, row in enumerate(rows, 1)],
        defaults,
        samples_per_prompt=settings.samples_per_prompt,
        control_fraction=settings.control_fraction,
        files=names.ConditionReader(names.Storage(str(materials.folder)), store=False),
    )
    found = list(intake)
    if intake.rejected:
        raise ValueError(f"{case.name}: {intake.rejected[0].message}")
    return found


def all_cases() -> list[Case]:
    """Every case; names are unique."""
    cases = [*_demo(), *_tiny(), *_absent()]
    twice = {case.name for case in cases}
    assert len(twice) == len(cases)
    return cases


def _demo() -> Iterator[Case]:
    def demo(name: str, *flags: str, **more: Any) -> Case:
        return Case(f"demo/{name}", "demo", "own", flags, **more)

    for name, flags in POLICIES.items():
        yield demo(f"guided/{name}", *flags)
        yield demo(f"unguided/{name}", *flags, "--sampling.guidance-scale=1")
    for sampler in ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler"):
        for name in ("none", "budget-0.34", "paper-1.2", "correct-1"):
            yield demo(f"{sampler}/{name}", *POLICIES[name], f"--sampling.sampler={sampler}")
    changes = {
        "size": ("--sampling.width=48", "--sampling.height=64"),
        "one-frame": ("--sampling.num-frames=1",),
        "long": ("--sampling.num-frames=17",),
        "steps-15": ("--sampling.num-inference-steps=15",),
        "steps-2": ("--sampling.num-inference-steps=2",),
        "shift-5": ("--sampling.flow-shift=5",),
        "negative": ("--sampling.negative-prompt=red",),
        "seed": ("--sampling.seed=7",),
        "guidance-7.5": ("--sampling.guidance-scale=7.5",),
        "bfloat16": ("--dtype=bfloat16",),
        "tiled": ("--engine.vae-tiling=true",),
        "sequence-16": ("--sampling.max-sequence-length=16",),
        "fps-12": ("--sampling.fps=12",),
        "copies": ("--samples-per-prompt=2",),
        "control": ("--control-fraction=1",),
    }
    for name, flags in changes.items():
        for policy in ("budget-0.34", "paper-1.2"):
            yield demo(f"{name}/{policy}", *POLICIES[policy], *flags)
    for name, settings in LIBRARY.items():
        yield demo(f"library/{name}", cache=settings, rows=ROWS)
    for name in ("none", "budget-0.34", "gate-2", "paper-1.2", "correct-1", "own-verdict"):
        yield demo(f"batch/{name}", *POLICIES[name], rows=ROWS)
        for number, row in enumerate(ROWS):
            yield demo(f"alone-{number}/{name}", *POLICIES[name], rows=[row])
    own = {"num_inference_steps": 6, "guidance_scale": 2.5, "width": 48, "height": 48, "fps": 24}
    yield demo("row-says-all", rows=[ROW | own | {"num_frames": 5, "negative_prompt": "blue"}])


def _tiny() -> Iterator[Case]:
    for model in names.TINY_MODELS:
        if model == "wan2.2-ti2v-5b":
            continue  # the class and the networks of other models here
        for policy in ("none", "budget-0.5", "gate-2", "paper-0.3", "paper-1.2", "correct"):
            if model == "cogvideox-5b" and policy in ("budget-0.5", "gate-2"):
                continue  # its sampler was random when this was recorded first
            if model == "wan2.2-t2v-a14b" and policy == "gate-2":
                continue  # a gate is for models with one network
            yield Case(f"tiny/{model}/{policy}", model, "tiny", POLICIES[policy])
        unguided = (*POLICIES["paper-0.3"], "--sampling.guidance-scale=1")
        yield Case(f"tiny/{model}/unguided", model, "tiny", unguided)
        if not names.MODELS[model].conditions:
            yield Case(f"tiny/{model}/batch", model, "tiny", POLICIES["paper-0.3"], ROWS[::2])
    wan, experts = "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"
    for weight in ("0.5", "1"):
        flags = (*POLICIES["none"], f"--engine.adapters={{adapter}}@{weight}")
        yield Case(f"tiny/{wan}/adapter-{weight}", wan, "tiny", flags)
    flags = (*POLICIES["budget-0.5"], "--engine.adapters={adapter},{adapter}@0.25")
    yield Case(f"tiny/{wan}/two-adapters", wan, "tiny", flags)
    second = (*POLICIES["budget-0.5"], "--engine.adapters={adapter}#transformer_2@0.8")
    yield Case(f"tiny/{experts}/second-network", experts, "tiny", second)


def _absent() -> Iterator[Case]:
    for model, spec in names.MODELS.items():
        changes: dict[str, tuple[str, ...]] = {
            "none": POLICIES["none"],
            "paper": POLICIES["paper"],
            "steps-30": (*POLICIES["none"], "--sampling.num-inference-steps=30"),
            "unguided": (*POLICIES["none"], "--sampling.guidance-scale=1", "--sampling.seed=0"),
            "small": (
                *POLICIES["none"],
                "--sampling.width=256",
                "--sampling.height=256",
                "--sampling.num-frames=25",
                "--sampling.fps=12",
            ),
            "float32": (*POLICIES["none"], "--dtype=float32"),
            "tiling": (
                *POLICIES["none"],
                f"--engine.vae-tiling={str(not spec.vae_tiling).lower()}",
            ),
            "control": (*POLICIES["paper"], "--control-fraction=1", "--samples-per-prompt=2"),
        }
        if spec.family.name != "hunyuan_video":
            changes["negative"] = (*POLICIES["none"], "--sampling.negative-prompt=blurry, überall")
        if model != "cogvideox-5b":
            changes["budget-0.34"] = POLICIES["budget-0.34"]
        for name, flags in changes.items():
            yield Case(f"absent/{model}/{name}", model, "absent", flags, own_size=True)
    for name in names.PRESETS:
        preset = dataclasses.asdict(names.PRESETS[name])
        yield Case(f"absent/preset/{name}", "demo", "absent", cache=preset)
    odd = {
        "emoji": "🌆 مرحبا e\u0301",
        "quotes": '"quoted" \\ \'',
        "space": "  a cat  ",
        "long": "x " * 999,
    }
    for name, prompt in odd.items():
        yield Case(f"absent/prompt/{name}", "demo", "absent", rows=[{"prompt": prompt}])
    for seed in (0, 3.0, 2**63 - 1):
        yield Case(f"absent/seed/{seed}", "demo", "absent", rows=[ROW | {"seed": seed}])
