"""One call decodes while the next one samples: the same clips, and the device's time shared out."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.decode_turns import BusyTime, CallTurn, DecodeTurns
from pipeline.engine.diffusers_engine import load_engine
from pipeline.models.engine_options import EngineOptions
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import CacheIdentity, SampleRequest, canonical_json
from sencache import SensitivityProfile

WAN = "wan2.1-t2v-1.3b"
HANG_S = 600


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 9)), max_size=40))
def test_the_seconds_of_all_calls_add_up_to_the_time_of_the_device(
    events: list[tuple[int, bool, int]],
) -> None:
    now, used = [0.0], 0.0
    busy = BusyTime(lambda: now[0])
    turns = [CallTurn(DecodeTurns(beside=True), overlaps=True) for _ in range(4)]
    using: set[int] = set()
    for which, begins, seconds in events:
        (busy.begin if begins else busy.pause)(turns[which])
        using = using | {which} if begins else using - {which}
        now[0] += seconds
        used += seconds if using else 0.0
    for turn in turns:
        busy.pause(turn)
    assert sum(turn.busy_s for turn in turns) == pytest.approx(used)


def test_two_calls_at_once_are_charged_half_each() -> None:
    now = [0.0]
    busy = BusyTime(lambda: now[0])
    one, two = (CallTurn(DecodeTurns(beside=True), overlaps=True) for _ in range(2))
    busy.begin(one)
    now[0] = 3.0
    busy.begin(two)
    now[0] = 5.0
    busy.pause(one)
    now[0] = 9.0
    busy.pause(two)
    assert (one.busy_s, two.busy_s) == (4.0, 5.0)


def test_a_call_that_fails_gives_everything_back() -> None:
    turns, host = DecodeTurns(beside=True), torch.device("cpu")
    for overlaps in (True, False):
        for passes_on in (True, False):
            with contextlib.suppress(LookupError), turns.turn(host, overlaps=overlaps) as turn:
                if passes_on:
                    turn.pass_on()
                    assert turns.networks.locked() is not overlaps
                raise LookupError
            assert not turns.networks.locked()
            assert not turns.decoder.locked()


def requests_of(
    model: ResolvedModel, request_for: Callable[..., SampleRequest], profile: SensitivityProfile
) -> list[SampleRequest]:
    """Clips of three caches, so that a cache left on a network would show in the next clip."""
    params = {"epsilon": 1e6, "strict_epsilon": 1e6, "strict_fraction": 0.2, "max_reuse": 1}
    paper = CacheIdentity("paper", canonical_json(params), profile.hash)
    caches = (CacheIdentity(), paper, CacheIdentity(), paper)
    return [
        dataclasses.replace(request_for(model), prompt=f"clip {seed}", seed=seed, cache=cache)
        for seed, cache in enumerate(caches)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [WAN, *(pytest.param(n, marks=pytest.mark.slow) for n in ("ltx-video", "cogvideox-2b"))]
)
def test_a_clip_is_decoded_while_the_next_one_is_sampled_and_nothing_else_changes(
    name: str,
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
    profile: SensitivityProfile,
) -> None:
    model = tiny_resolved(name)
    family = model.spec.family.name
    profile = dataclasses.replace(
        profile, metadata=dataclasses.replace(profile.metadata, family=family)
    )
    requests = requests_of(model, request_for, profile)
    text = profile.to_json()
    inline = load_engine(model, device="cpu", profile_json=text)
    expected = [inline.generate([request])[0] for request in requests]
    options = EngineOptions(decode_beside=True)
    beside = load_engine(model, device="cpu", profile_json=text, options=options)
    pipe: Any = beside._pipe
    next_samples = threading.Event()
    decode, forward = pipe.vae.decode, pipe.transformer.forward
    decodes = [0]

    def watched_decode(*args: Any, **kwargs: Any) -> Any:
        decodes[0] += 1
        if decodes[0] < len(requests):  # there is a next one
            next_samples.clear()
            assert next_samples.wait(HANG_S), "the next clip waits until this one is decoded"
        return decode(*args, **kwargs)

    def watched_forward(*args: Any, **kwargs: Any) -> Any:
        next_samples.set()
        return forward(*args, **kwargs)

    pipe.vae.decode, pipe.transformer.forward = watched_decode, watched_forward
    with ThreadPoolExecutor(2) as threads:
        made = [clips[0] for clips in threads.map(lambda each: beside.generate([each]), requests)]
    assert decodes == [len(requests)]
    for clip, same in zip(made, expected, strict=True):
        assert np.array_equal(clip.frames, same.frames)
        assert clip.cache == same.cache
        assert clip.engine_s is not None
        assert same.engine_s is None
    assert {clip.cache["reused"] for clip in made} != {0}


def test_a_measured_clip_keeps_the_networks_to_itself(
    tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., SampleRequest]
) -> None:
    model = tiny_resolved(WAN)
    engine = load_engine(model, device="cpu", options=EngineOptions(decode_beside=True))
    recorded = dataclasses.replace(request_for(model), records=True)
    (clip,) = engine.generate([recorded])
    assert clip.measurement
    assert clip.engine_s is None
