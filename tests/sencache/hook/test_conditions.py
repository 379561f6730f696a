"""A prompt, image or control input that changes in the middle of a run is noticed at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sencache import SenCacheConfig, SensitivityProfile, apply_sencache
from sencache.families.registry import family_of
from sencache.hook.call import Call
from sencache.hook.conditions import Conditions, SeenTensor
from sencache.schedules.drift import OutputDrift
from tests.sencache.support.driving import LOOSE, TAUS, cached, decisions, latents
from tests.sencache.support.tiny_pipelines import PIPELINES, STEPS, TinyPipeline, fitting_profile
from tests.sencache.support.toys import (
    LINEAR,
    CountRows,
    LinearTransformer,
    make_profile,
    sample,
    tiny_pipe,
)

AT = 4
"""Step at whose end a callback changes something; the next one would be reused."""
NEVER_STRICT = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=20)
PLANNED = SenCacheConfig(policy="planned", budget=0.34)


def with_drift(profile: SensitivityProfile) -> SensitivityProfile:
    taus = tuple(1 - index / 12 for index in range(12))
    distances = tuple(tuple((s - t) ** 2 for t in taus) for s in taus)
    return dataclasses.replace(profile, drift=OutputDrift(taus, (1.0,) * 12, distances))


def changing(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    """Arguments of a pipeline's call: a callback that changes one of its tensors."""

    def callback(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {name: change(values[name])} if step == AT else {}

    return {
        "callback_on_step_end": callback,
        "callback_on_step_end_tensor_inputs": ["latents", name],
    }


@pytest.mark.parametrize("name", ["prompt_embeds", "negative_prompt_embeds"])
@pytest.mark.parametrize("config", [NEVER_STRICT, PLANNED], ids=["paper", "planned"])
def test_a_prompt_that_changes_is_computed_in_its_branch_alone(
    name: str, config: SenCacheConfig
) -> None:
    pipe = tiny_pipe()
    handle = apply_sencache(pipe, config, with_drift(make_profile()))
    counter = CountRows(pipe.transformer.patch_embedding)
    sample(pipe, [1, 2])
    (usual,) = set(decisions(handle))
    evaluations = len(counter.rows)
    assert usual[AT + 1] == "R"
    sample(pipe, [1, 2], **changing(name, lambda text: -text))
    (decided,) = set(decisions(handle))
    if name == "prompt_embeds":
        assert decided[: AT + 2] == usual[: AT + 1] + "C"
    else:
        assert decided == usual
    both = name == "prompt_embeds" and config is not PLANNED  # uncond follows cond there
    assert len(counter.rows) - evaluations == evaluations + (2 if both else 1)
    counter.remove()


@pytest.mark.parametrize("config", [NEVER_STRICT, PLANNED], ids=["paper", "planned"])
def test_what_is_reused_after_a_change_belongs_to_the_new_prompt(config: SenCacheConfig) -> None:
    """With a network that gives out its text, no mixture of old and new text is ever seen."""
    transformer = LinearTransformer(0.0, 0.0)
    profile = with_drift(make_profile(family="linear"))
    pipe = tiny_pipe()
    pipe.transformer = transformer
    pipe.scheduler.set_timesteps(12)
    apply_sencache(pipe, config, profile, family=LINEAR)
    old, new = torch.tensor([2.0]), torch.tensor([5.0])
    for step, time in enumerate(pipe.scheduler.timesteps):
        text = old if step <= AT else new
        with transformer.cache_context("cond", step_index=step, num_inference_steps=12):
            output = transformer(torch.ones(1, 2, 3, 4), time.expand(1), text, return_dict=False)
        assert torch.allclose(output[0], text.expand(1, 2, 3, 4))
    assert len(transformer.calls) < 12


@pytest.mark.parametrize("tiny", PIPELINES, ids=[tiny.name for tiny in PIPELINES])
def test_every_pipeline_notices_its_text(tiny: TinyPipeline) -> None:
    pipe = tiny.make()
    config = dataclasses.replace(NEVER_STRICT, guidance=None)
    handle = apply_sencache(pipe, config, fitting_profile(pipe))
    tiny.run(pipe, [0, 1])
    (usual,) = set(decisions(handle))
    assert usual[AT + 1] == "R"
    tiny.run(pipe, [0, 1], **changing("prompt_embeds", lambda text: -text))
    (decided,) = set(decisions(handle))
    assert decided == usual[: AT + 1] + "C" + usual[AT + 2 :]


@pytest.mark.parametrize("tiny", PIPELINES, ids=[tiny.name for tiny in PIPELINES])
def test_no_pipeline_of_a_known_family_has_its_inputs_compared_by_value(
    tiny: TinyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So noticing changes waits for the device at no step, but for images beside the latents."""
    compared, waits = [], []
    changed, differed = SeenTensor.changed, Conditions.differed

    def noting(self: SeenTensor, now: SeenTensor) -> Any:
        result = changed(self, now)
        compared.append(not isinstance(result, bool))
        return result

    def asked(self: Conditions) -> bool:
        waits.append(bool(self._pending))
        return differed(self)

    monkeypatch.setattr(SeenTensor, "changed", noting)
    monkeypatch.setattr(Conditions, "differed", asked)
    pipe = tiny.make()
    handle = apply_sencache(pipe, NEVER_STRICT, fitting_profile(pipe))
    tiny.run(pipe, [0, 1])
    assert "R" in decisions(handle)[0]
    assert compared
    assert not any(compared)
    config = pipe.transformer.config
    beside = config.in_channels != (config.out_channels or config.in_channels)
    assert any(waits) is beside


def call(condition: Any, x: torch.Tensor | None = None) -> Call:
    x = torch.ones(1, 2, 3, 4) if x is None else x
    arguments = {"hidden_states": x, "timestep": torch.ones(1), "encoder_hidden_states": condition}
    return Call(LINEAR, arguments, x[:, :2])


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (lambda value: value, False),
        (lambda value: value.clone(), False),
        (lambda value: value[:], False),
        (lambda value: value.add_(1), True),
        (lambda value: value[:1].add_(1), True),
        (lambda value: value + 1, True),
        (lambda value: value.double(), True),
        (lambda value: value.repeat(2, 1), True),
        (lambda value: None, True),
        (lambda value: (value,), True),
    ],
)
def test_values_count_and_not_the_objects_that_hold_them(
    change: Callable[[torch.Tensor], Any], noticed: bool
) -> None:
    conditions, value = Conditions(), torch.arange(6.0).view(2, 3)
    assert not conditions.observe(call(value))
    changed = conditions.observe(call(change(value)))
    assert (changed or conditions.differed()) is noticed
    assert not conditions.differed()  # told once


def test_nested_and_plain_arguments_are_compared_too() -> None:
    conditions, table = Conditions(), torch.ones(3)
    for given, noticed in (
        ({"scale": 1.0, "tables": [table]}, False),
        ({"scale": 1.0, "tables": [table]}, False),
        ({"scale": 0.5, "tables": [table]}, True),
        ({"scale": 0.5, "tables": [table * 2]}, True),
        ({"scale": 0.5}, True),
    ):
        changed = conditions.observe(call(given))
        assert (changed or conditions.differed()) is noticed


def test_a_change_at_a_computed_step_is_still_known_at_the_next_reused_one() -> None:
    conditions, value = Conditions(), torch.ones(3)
    conditions.observe(call(value))
    assert not conditions.observe(call(value + 1))  # not known without waiting for the device
    assert not conditions.observe(call(value + 1))
    assert conditions.differed()


@pytest.mark.parametrize("config", [LOOSE, dataclasses.replace(LOOSE, uncond_verdict="own")])
@pytest.mark.parametrize("publish", [True, False])
def test_an_image_beside_the_latents_is_noticed(config: SenCacheConfig, publish: bool) -> None:
    config = dataclasses.replace(config, max_reuse=20, num_inference_steps=len(TAUS))
    transformer, handle = cached(config)
    text = torch.zeros(1)
    for step, tau in enumerate(TAUS):
        image = torch.full((1, 2, 3, 4), 1.0 if step < AT else 2.0)
        x, t = torch.cat([latents([0.1], step), image], 1), torch.full((1,), 1000 * tau)
        where = {"step_index": step, "num_inference_steps": len(TAUS)} if publish else {}
        for name in ("cond", "uncond"):
            with transformer.cache_context(name, **where):
                transformer(x, t, text)
    assert decisions(handle) == ["CRRRCRRRRC"]
    assert handle.stats()[0].evaluations == 6


@pytest.mark.parametrize("verdict", ["follow", "own"])
@pytest.mark.parametrize("publish", [True, False])
@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_a_branch_that_begins_anew_does_not_disturb_the_other(
    branch: str, verdict: Any, publish: bool
) -> None:
    config = dataclasses.replace(
        LOOSE, max_reuse=20, uncond_verdict=verdict, num_inference_steps=len(TAUS)
    )
    transformer, handle = cached(config)
    texts = {"cond": torch.zeros(1), "uncond": torch.ones(1)}
    for step, tau in enumerate(TAUS):
        if step == AT:
            texts[branch] = texts[branch] + 3
        where = {"step_index": step, "num_inference_steps": len(TAUS)} if publish else {}
        for name, text in texts.items():
            with transformer.cache_context(name, **where):
                transformer(latents([0.1], step), torch.full((1,), 1000 * tau), text)
    assert decisions(handle) == ["CRRRCRRRRC" if branch == "cond" else "CRRRRRRRRC"]
    follows = branch == "cond" and verdict == "follow"
    assert len(transformer.calls) == 2 + 2 + (2 if follows else 1)


def test_control_inputs_of_vace_are_noticed() -> None:
    tiny = next(tiny for tiny in PIPELINES if tiny.name == "wan-vace")
    pipe = tiny.make()
    handle = apply_sencache(pipe, NEVER_STRICT, fitting_profile(pipe))
    assert family_of(pipe.transformer).hints is not None
    control: list[torch.Tensor] = []
    forward = pipe.transformer.forward

    def other_control(*args: Any, **kwargs: Any) -> Any:
        control.append(kwargs["control_hidden_states"])
        if len(control) == 2 * (AT + 1) + 1:  # the cond call of the step after AT
            kwargs["control_hidden_states"] = 2 * control[-1]
        return forward(*args, **kwargs)

    pipe.transformer.forward = other_control
    tiny.run(pipe, [0])
    usual = "C" + "R" * (STEPS - 2) + "C"
    # Computed as it changes, and as it changes back.
    assert decisions(handle) == [usual[: AT + 1] + "CC" + usual[AT + 3 :]]
