"""A model over several ranks makes the clips that one process makes."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load

from jobs.benchmarks.profiles.bench import load_bench
from pipeline.engine.diffusers_engine import load_engine
from pipeline.engine.outputs import to_uint8
from pipeline.engine.protocol import Clip, EngineDiedError
from pipeline.errors import UserError
from pipeline.models.engine_options import EngineOptions
from pipeline.models.families.wan import WAN
from pipeline.models.resolve import resolve_model
from pipeline.parallel import xfuser
from pipeline.parallel.context_parallel import split_network
from pipeline.parallel.layout import ParallelLayout
from pipeline.ranks.failures import GroupError
from pipeline.ranks.group_engine import GroupEngine, load_group
from pipeline.ranks.processes import GroupSpec
from pipeline.requests.sample_request import CacheIdentity, SampleRequest
from pipeline.tensors.tensor_file import KINDS
from sencache import SenCacheConfig, SensitivityProfile
from tests.pipeline.ranks import group_workers
from tests.pipeline.ranks.group_models import DisagreeingRank

HALVES = ParallelLayout("context_parallel", ulysses=2)
PROFILE = Path("pipeline/models/demo/profile.json")


@pytest.fixture(scope="module")
def profile() -> str:
    return PROFILE.read_text()


@pytest.fixture(scope="module")
def requests(profile: str) -> dict[str, list[SampleRequest]]:
    """Two clips per policy."""
    template = load_bench("demo", "", "cpu").template
    small = {"num_inference_steps": 8, "width": 32, "height": 32, "num_frames": 5}
    template = dataclasses.replace(template, **small)
    known = SensitivityProfile.from_json(profile)
    policies = {
        "none": SenCacheConfig(policy="none"),
        "paper": SenCacheConfig(epsilon=0.6, strict_epsilon=0.3),
        "planned": SenCacheConfig(policy="planned", budget=0.5),
    }
    captions = ("a red circle moving left quickly", "a blue square moving up slowly")
    return {
        name: [
            dataclasses.replace(
                template,
                prompt=caption,
                seed=seed,
                cache=CacheIdentity.of(config, known if config.may_reuse else None),
            )
            for seed, caption in enumerate(captions)
        ]
        for name, config in policies.items()
    }


@pytest.fixture(scope="module")
def group(profile: str) -> Iterator[GroupEngine]:
    """One for all tests, for its start is what takes long; the last of them ends it."""
    options = EngineOptions(save=KINDS)
    model = resolve_model("demo")
    rank = DisagreeingRank(model, HALVES, "cpu", profile_json=profile, options=options)
    engine = load_group(rank)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(profile: str) -> Any:
    return load_engine(resolve_model("demo"), device="cpu", profile_json=profile)


def decisions(clips: Sequence[Clip]) -> list[str]:
    return [clip.cache["decisions"] for clip in clips]


@pytest.mark.parametrize("policy", ["none", "paper", "planned"])
@pytest.mark.slow
def test_two_ranks_make_the_clips_of_one(
    policy: str, group: GroupEngine, alone: Any, requests: dict[str, list[SampleRequest]]
) -> None:
    wanted = alone.generate(requests[policy])
    made = group.generate(requests[policy])
    assert decisions(made) == decisions(wanted)
    if policy != "none":
        assert any("R" in each for each in decisions(made))
    for one, other in zip(made, wanted, strict=True):
        off = np.abs(one.frames.astype(int) - other.frames.astype(int))
        assert off.max() <= 1  # of 255: rounding to bytes
        tensors = load(one.tensors or b"")
        with torch.no_grad():
            decoded = alone._pipe.vae.decode(tensors["latents"][None]).sample
        video = alone._pipe.video_processor.postprocess_video(decoded, "pt")
        assert np.array_equal(to_uint8(video, requests[policy][0])[0], one.frames)
        assert "prompt_embeds" in tensors
    assert group.group_size == 2
    assert group.disagreements == 0
    assert made[0].parallel == HALVES.to_row()
    assert group.device_name == alone.device_name


@pytest.mark.slow
def test_a_request_for_another_model_leaves_the_group_alive(
    group: GroupEngine, requests: dict[str, list[SampleRequest]]
) -> None:
    foreign = dataclasses.replace(requests["none"][0], model="other")
    with pytest.raises(GroupError, match="this engine holds demo"):
        group.generate([foreign])
    assert group.generate(requests["none"][:1])


@pytest.mark.slow
def test_a_rank_of_another_opinion_changes_nothing_and_is_counted(
    group: GroupEngine, alone: Any, requests: dict[str, list[SampleRequest]]
) -> None:
    before = group.disagreements
    group._group.ask(True)
    made = group.generate(requests["paper"])
    again = group.generate(requests["paper"][:1])
    group._group.ask(False)
    assert decisions(made) == decisions(alone.generate(requests["paper"]))
    counts = [clip.cache["disagreements"] for clip in made]
    assert counts[0] == counts[1] > 0  # of the call that both were made in
    assert group.disagreements - before == counts[0] + again[0].cache["disagreements"]


@pytest.mark.slow
def test_a_lost_rank_is_a_dead_engine(
    group: GroupEngine, requests: dict[str, list[SampleRequest]]
) -> None:
    os.kill(group._group.processes[1], signal.SIGKILL)
    with pytest.raises(EngineDiedError, match="rank 1 was killed by SIGKILL"):
        group.generate(requests["none"])


def test_a_group_that_cannot_load_says_why_in_one_line() -> None:
    with pytest.raises(UserError, match="dtype 'no such type' is unknown") as caught:
        GroupEngine(group_workers.no_rank_can_load, GroupSpec(2))
    assert "\n" not in str(caught.value)


def test_heads_that_cannot_be_shared_are_refused_with_the_numbers() -> None:
    layout = ParallelLayout("context_parallel", ulysses=2, ring=2)
    network = WanTransformer3DModel(num_attention_heads=5, attention_head_dim=12, num_layers=1)
    refused, no_mesh = r"degree 4 cannot share the 5 .* over 2 ranks: use .* degree of 1, 5", None
    with pytest.raises(UserError, match=refused):
        split_network(network, WAN, layout, no_mesh, torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"shares 5 attention heads of .* use a Ulysses degree of"):
        xfuser.check_heads(network, layout)
