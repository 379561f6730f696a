"""Every family and policy on the fake of CUDA: no mix of devices, and only the documented waits.

The library's README and docs/gpu.md state the waits; an H200 counted the same.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from jobs.benchmarks.gpu.loops import PROFILE
from pipeline.engine.diffusers_engine import DiffusersEngine
from pipeline.models.registry import get_model
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile
from tests.gpu.fake_cuda import CUDA, DeviceMixError, FakeCudaTensor, Waits, fake_cuda, to_cuda
from tests.model_builders import BUILDERS

STEPS = 8
WAN = "wan2.1-t2v-1.3b"
PAPER = {"epsilon": 0.4, "strict_epsilon": 0.4, "max_reuse": 3}
PLAN = {"budget": 0.5, "order": 1, "repair": True}
GATE = {"budget": 0.875, "order": 1, "repair": True, "gate": 1, "gate_ratio": 0.25}
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", {}),
    "paper": ("paper", PAPER),
    "residual": ("paper", PAPER | {"reuse": "residual"}),
    "planned": ("planned", PLAN),
    "gated": ("planned", GATE),
}
WAITS = {
    "wan2.1-t2v-1.3b": {"none": 1, "paper": 7, "residual": 7, "planned": 3, "gated": 4},
    "cogvideox-2b": {"none": 1, "paper": 9, "residual": 9, "planned": 4, "gated": 5},
    "ltx-video": {"none": 1, "paper": 8, "residual": 8, "planned": 6, "gated": 7},
}
"""Waits of the library in a run of eight steps that is not the first of its profile and sampler.

Policy none waits once, when the statistics are read, and so do all others. The paper's rule waits
at every step that it decides: all but the first, and the last where that is known to be computed. A
planned run waits when it begins, most often where the sampler keeps its levels on the device
(LTX-Video), and never at a step; its gate waits once. Families that put both branches of guidance
into one call compare them once when a run begins.
"""

MOST_WAITS = {"none": 2, "paper": STEPS + 4, "residual": STEPS + 4, "planned": 12, "gated": 12}
"""For the other families."""

PROFILE_COPY = "sencache/profiles/interpolation.py"
"""Copies a profile to the device, once for each of its curves."""

OTHERS = ["cogvideox-2b", "ltx-video", "hunyuanvideo", "wan2.2-t2v-a14b", "wan2.1-t2v-1.3b"]


@pytest.fixture
def engine_of(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], tuple[DiffusersEngine, SensitivityProfile, Waits]]]:
    """An engine of a tiny pipeline on the fake device, the profile that it holds, and its waits."""
    with fake_cuda(monkeypatch) as waits:

        def make(name: str) -> tuple[DiffusersEngine, SensitivityProfile, Waits]:
            spec = get_model(name)
            torch.manual_seed(0)
            pipe = BUILDERS[name]()
            pipe.set_progress_bar_config(disable=True)
            to_cuda(pipe)
            own = SensitivityProfile.from_json(PROFILE.read_text())
            facts = {"model": name, "family": spec.family.name, "architecture": "", "revision": ""}
            profile = dataclasses.replace(own, metadata=dataclasses.replace(own.metadata, **facts))
            return (
                DiffusersEngine(ResolvedModel(spec, "", ""), pipe, profile=profile),
                profile,
                waits,
            )

        yield make


def requests(
    make: Callable[..., SampleRequest], name: str, policy: str, profile: SensitivityProfile
) -> list[SampleRequest]:
    model = ResolvedModel(get_model(name), "", "")
    kind, settings = POLICIES[policy]
    cache = CacheIdentity()
    if kind != "none":
        cache = CacheIdentity(kind, canonical_json(settings), profile.hash)
    return [make(model, seed=seed, num_inference_steps=STEPS, cache=cache) for seed in range(2)]


def waits_of_the_library(waits: Waits, *, first: bool) -> int:
    """Those of `sencache`, after a check of the engine's own: a look and a copy for each clip."""
    engine = Counter(
        wait.where.partition(":")[0] for wait in waits.ours if wait.where.startswith("pipeline/")
    )
    assert engine == {"pipeline/engine/outputs.py": 4, "pipeline/engine/recording.py": 1}
    own = [wait.where for wait in waits.ours if wait.where.startswith("sencache/")]
    copies = [where for where in own if where.startswith(PROFILE_COPY)]
    assert len(copies) <= 4 * first
    return len(own) - len(copies)


def waits_in(
    engine: DiffusersEngine, waits: Waits, batch: list[SampleRequest], *, first: bool
) -> int:
    """Waits of the library in one engine call."""
    waits.all.clear()
    clips = engine.generate(batch)
    assert clips[0].frames.shape == (9, 64, 64, 3)
    return waits_of_the_library(waits, first=first)


def test_the_fake_refuses_what_cuda_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda(monkeypatch) as waits:
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert isinstance(there, FakeCudaTensor)
        assert there.device == CUDA
        with pytest.raises(DeviceMixError, match=r"cpu and cuda:0, \[3\] on cpu"):
            here + there
        assert (there + torch.tensor(2.0)).sum().item() == 9.0
        assert there[torch.tensor([0, 2])].cpu().tolist() == [1.0, 1.0]
        assert [wait.kind for wait in waits.all] == ["item", "to device", "to host"]
        waits.all.clear()
        assert here.to("cuda", non_blocking=True).device == CUDA
        there.add_(1.0)
        assert there.view(3, 1).shape == (3, 1)
        assert waits.all == []
        assert there.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sencache.ProfileWarning")
def test_a_planned_run_waits_when_it_begins_and_not_at_its_steps(
    engine_of: Callable[[str], Any], request_for: Callable[..., SampleRequest]
) -> None:
    engine, profile, waits = engine_of(WAN)
    batch = requests(request_for, WAN, "planned", profile)
    # The first one also reads the path of the sampler.
    assert waits_in(engine, waits, batch, first=True) == WAITS[WAN]["planned"] + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sencache.ProfileWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_every_policy_runs_on_one_device_with_the_documented_waits(
    name: str, engine_of: Callable[[str], Any], request_for: Callable[..., SampleRequest]
) -> None:
    engine, profile, waits = engine_of(name)
    for policy in ("paper", "planned"):
        waits_in(engine, waits, requests(request_for, name, policy, profile), first=True)
    policies = [each for each in POLICIES if each != "gated" or not get_model(name).two_networks]
    found = {
        policy: waits_in(engine, waits, requests(request_for, name, policy, profile), first=False)
        for policy in policies
    }
    if name in WAITS:
        assert found == WAITS[name]
    assert all(count <= MOST_WAITS[policy] for policy, count in found.items())
