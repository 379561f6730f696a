"""Every model, backend and degree that is offered makes what one rank makes.

Tiny networks with random weights, the whole pipeline, and a cache that decides by what it sees.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.engine.diffusers_engine import load_engine
from pipeline.models.engine_options import EngineOptions
from pipeline.models.families.ltx import LTX
from pipeline.models.families.wan import WAN
from pipeline.models.registry import get_model
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.layout import (
    CONTEXT_PARALLEL,
    XFUSER,
    ParallelLayout,
)
from pipeline.prompts.condition_columns import ConditionFile
from pipeline.ranks.failures import RankRaisedError
from pipeline.ranks.group import RankGroup
from pipeline.ranks.group_engine import LoadRank
from pipeline.ranks.processes import GroupSpec
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile
from tests.pipeline.ranks import group_models

pytestmark = pytest.mark.slow

Resolve = Callable[[str], ResolvedModel]
MakeRequest = Callable[..., SampleRequest]
MakeTrial = Callable[..., group_models.Trial]
Ranks = Callable[[int], RankGroup]
Alone = Callable[[group_models.Trial], Any]

MODELS = (
    "wan2.1-t2v-1.3b",
    "wan2.2-t2v-a14b",
    "ltx-video",
    "cogvideox-2b",
    "cogvideox-5b",
    "hunyuanvideo",
)
DEGREES = {"ulysses": [(2, 1), (4, 1)], "ring": [(1, 2), (1, 4)], "both": [(2, 2)]}
SPECIAL = {"wan2.1-i2v-14b": WAN, "ltx-video-i2v": LTX, "wan2.2-ti2v": WAN}
"""An image beside the text, and a timestep of its own for each token: other paths through the same
networks."""

OFFERS = [
    (name, ParallelLayout(backend, *degrees))
    for name in MODELS
    for backend, kinds in get_model(name).family.splits.items()
    for kind in (*kinds, *(("both",) if len(kinds) == 2 else ()))
    for degrees in DEGREES[kind]
] + [
    (name, ParallelLayout(backend, ulysses=2))
    for name, family in SPECIAL.items()
    for backend in family.splits
]
BRANCHES = [
    *((name, ParallelLayout(cfg=2)) for name in MODELS if name != "hunyuanvideo"),
    *((name, ParallelLayout(cfg=2)) for name in SPECIAL),
    *(
        (name, dataclasses.replace(layout, cfg=2))
        for name, layout in OFFERS
        if layout.size == 2 and name != "hunyuanvideo"
    ),
]
PAPER = {"strict_epsilon": 0.1, "strict_fraction": 0.2, "max_reuse": 2}
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "even": {"": {}},
    "odd": {
        "": {"width": 48, "height": 48, "num_frames": 1},
        "ltx": {"width": 96, "height": 32, "num_frames": 17},
    },
}
"""What a clip's tokens are to the ranks, by the beginning of a model's name: odd are nine tokens,
which do not divide."""

CLIPS = [
    (name, layout, size)
    for name, layout in OFFERS
    for size in SIZES
    if size == "even" or name not in ("wan2.2-t2v-a14b", "cogvideox-2b")
]
"""One after the other of the same model and layout, so that ranks load it once."""


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    groups: dict[int, RankGroup] = {}

    def of(size: int) -> RankGroup:
        if size not in groups:
            groups[size] = RankGroup(group_models.trials, GroupSpec(size))
        return groups[size]

    yield of
    for group in groups.values():
        group.close()


@pytest.fixture(scope="module")
def alone() -> Alone:
    engines: dict[tuple[str, str], Any] = {}
    made: dict[tuple[Any, ...], Any] = {}

    def make(trial: group_models.Trial) -> Any:
        load = trial.load
        key = load.model.location, load.profile_json
        if key not in engines:
            engine = load_engine(load.model, device="cpu", profile_json=load.profile_json)
            engines[key] = engine, group_models.counted(engine)
        engine, texts = engines[key]
        if (clips := (*key, *trial.requests)) not in made:
            texts.clear()
            made[clips] = group_models.watch(lambda: engine.generate(trial.requests))
            made[clips]["texts"] = texts.copy()
        return made[clips]

    return make


def profile_of(model: ResolvedModel, profile: SensitivityProfile) -> str:
    known = dataclasses.replace(profile.metadata, model="", family=model.spec.family.name)
    return dataclasses.replace(profile, metadata=known).to_json()


@pytest.fixture(scope="module")
def first_frame(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("images") / "frame.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"conditions": (ConditionFile("image", sha256, str(path)),)}


@pytest.fixture(scope="module")
def per_token_wan(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> ResolvedModel:
    """A Wan that gets a timestep for each token, as Wan 2.2 TI2V does."""
    folder = tmp_path_factory.mktemp("models") / "ti2v"
    shutil.copytree(tiny_model("wan2.1-t2v-1.3b"), folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"expand_timesteps": True}))
    return resolve_model("wan2.1-t2v-1.3b", str(folder))


@pytest.fixture
def trial(
    tiny_resolved: Resolve,
    request_for: MakeRequest,
    profile: SensitivityProfile,
    first_frame: dict[str, Any],
    per_token_wan: ResolvedModel,
) -> Callable[..., group_models.Trial]:
    """Return a function that makes a trial with a cache that decides by what it sees."""

    def make(name: str, layout: ParallelLayout, **changes: Any) -> group_models.Trial:
        model = per_token_wan if name == "wan2.2-ti2v" else tiny_resolved(name)
        if model.spec.conditions:
            changes = first_frame | changes
        if name == "wan2.1-i2v-14b":  # counts on a text of 512 tokens behind those of the image
            changes["max_sequence_length"] = 512
        text = profile_of(model, profile)
        epsilon = 2.0 if name == "cogvideox-5b" else 0.3  # its sampler adds noise at every step
        hash_ = SensitivityProfile.from_json(text).hash
        cache = CacheIdentity("paper", canonical_json(PAPER | {"epsilon": epsilon}), hash_)
        changes = {"cache": cache} | changes
        # A CPU has no other attention that a ring can add up, and auto would look for a GPU's.
        options = EngineOptions(attention="sdpa_flash") if layout.ring > 1 else EngineOptions()
        load = LoadRank(model, layout, "cpu", profile_json=text, options=options)
        return group_models.Trial(load, [request_for(model, **changes)])

    return make


def cases(found: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Parameters of a test; four ranks are variants of two."""
    return [
        pytest.param(
            *case,
            id="-".join(map(label, case)),
            marks=() if case[1].size == 2 else (pytest.mark.variant,),
        )
        for case in found
    ]


def label(value: Any) -> str:
    """Name of a parameter."""
    if not isinstance(value, ParallelLayout):
        return str(value)
    return f"{value.backend}-{value.cfg}x{value.ulysses}x{value.ring}"


def compare(got: group_models.Outcome, want: dict[str, Any], layout: ParallelLayout) -> None:
    assert got.decisions == [want["decisions"]] * layout.size
    span = want["frames"].max() - want["frames"].min()
    assert span > 0.1
    assert abs(got.frames - want["frames"]).max() <= 1e-4 * span
    # Not just its result: xfuser can run without sharing anything.
    degrees = (layout.ulysses, layout.ring) if layout.backend == XFUSER else (0, 0)
    assert got.degrees == degrees


@pytest.mark.parametrize(("name", "layout", "size"), cases(CLIPS))
def test_ranks_make_what_one_makes(
    name: str, layout: ParallelLayout, size: str, ranks: Ranks, alone: Alone, trial: MakeTrial
) -> None:
    asked = trial(name, layout, **SIZES[size].get(name[:3], SIZES[size][""]))
    if size == "odd" and layout.ring > 1 and (layout.backend == XFUSER or layout.ulysses > 1):
        with pytest.raises(RankRaisedError, match="a clip of 9 tokens cannot be shared") as caught:
            ranks(layout.size).ask(asked)
        assert caught.value.alive
        return
    want = alone(asked)
    if size == "even":
        assert set("".join(want["decisions"])) == {"C", "R"}
    compare(ranks(layout.size).ask(asked), want, layout)


@pytest.mark.parametrize(("name", "layout"), cases(BRANCHES))
def test_each_half_of_the_ranks_computes_one_branch(
    name: str, layout: ParallelLayout, ranks: Ranks, alone: Alone, trial: MakeTrial
) -> None:
    asked = trial(name, layout)
    want, got = alone(asked), ranks(layout.size).ask(asked)
    compare(got, want, layout)
    halves = got.texts[0], got.texts[-1]
    assert got.texts == [each for each in halves for _ in range(layout.sequence)]
    assert not halves[0].keys() & halves[1].keys()  # the texts of a branch belong to one half
    assert halves[0] + halves[1] == want["texts"]
    nfe = want["decisions"][0].count("C")
    assert [half.total() for half in halves] == [nfe, nfe]  # nothing runs in a skipped step


@pytest.mark.parametrize(
    ("name", "layout"),
    cases(
        [
            *(
                (name, ParallelLayout(CONTEXT_PARALLEL, ranks, vae=True))
                for ranks in (2, 4)
                for name in ("wan2.1-t2v-1.3b", "hunyuanvideo")
            ),
            ("wan2.1-i2v-14b", ParallelLayout(cfg=2, vae=True)),
        ]
    ),
)
def test_all_ranks_decode_a_band_each(
    name: str, layout: ParallelLayout, ranks: Ranks, alone: Alone, trial: MakeTrial
) -> None:
    asked = trial(name, layout)
    got = ranks(layout.size).ask(asked)
    compare(got, alone(asked), layout)
    rows = asked.requests[0].height // 8
    assert got.bands == [{rows // layout.size}] * layout.size


@pytest.mark.parametrize(
    "name", ["wan2.1-t2v-1.3b", pytest.param("ltx-video", marks=pytest.mark.variant)]
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_halves_share_a_batch_whose_clips_skip_other_steps(
    name: str, guidance: float, ranks: Ranks, alone: Alone, trial: MakeTrial
) -> None:
    asked = trial(name, ParallelLayout(cfg=2), guidance_scale=guidance)
    (first,) = asked.requests
    texts = ("a red circle", "blue", "xyz")

    def batch(epsilon: float) -> group_models.Trial:
        params = canonical_json(PAPER | {"epsilon": epsilon})
        cache = dataclasses.replace(first.cache, params=params)
        clips = [
            dataclasses.replace(first, prompt=text, seed=seed, cache=cache)
            for seed, text in enumerate(texts)
        ]
        return dataclasses.replace(asked, requests=clips)

    scores = alone(batch(1e-6))["scores"]
    asked = batch((min(scores) + max(scores)) / 2)
    want, got = alone(asked), ranks(2).ask(asked)
    assert len(set(want["decisions"])) > 1
    compare(got, want, ParallelLayout(cfg=2))
    together = got.texts[0] + got.texts[1]
    # A row that computes alone, without a second branch, is computed by both halves.
    assert together == want["texts"] if guidance > 1 else together >= want["texts"]
    assert all(half.total() < want["texts"].total() for half in got.texts)


@pytest.mark.parametrize(
    "name", ["wan2.1-t2v-1.3b", pytest.param("cogvideox-2b", marks=pytest.mark.variant)]
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guidance_is_shared_without_a_cache_and_left_alone_where_there_is_none(
    name: str, guidance: float, ranks: Ranks, alone: Alone, trial: MakeTrial
) -> None:
    asked = trial(name, ParallelLayout(cfg=2), guidance_scale=guidance, cache=CacheIdentity())
    want, got = alone(asked), ranks(2).ask(asked)
    assert want["decisions"] == ["CCCCC"]
    compare(got, want, ParallelLayout(cfg=2))
    assert [each.total() for each in got.texts] == [5, 5]
    assert (got.texts[0] == got.texts[1]) == (guidance == 1.0)
