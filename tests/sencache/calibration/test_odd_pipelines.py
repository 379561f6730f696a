"""Sensitivities of two networks, of one call for both branches, and of samplers that turn back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, LTXVideoTransformer3DModel

from sencache import (
    ProfileError,
    calibrate,
)
from sencache.profiles.metadata import architecture_of
from tests.sencache.calibration.measuring import measure
from tests.sencache.support.toys import (
    LinearPipe,
    LinearTransformer,
    tiny_wan,
    unipc,
)


class OneCallPipe(LinearPipe):
    """Both branches of guidance in one call, under a context that serves cond alone too."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        guidance_scale: float = 4.0,
        output_type: str = "latent",
    ) -> torch.Tensor:
        self.scheduler.set_timesteps(8)
        x = torch.cat([torch.randn(1, 2, 3, 4, generator=g) for g in generator])
        text = torch.tensor([float(len(caption)) for caption in prompt])
        copies = 2 if guidance_scale > 1 else 1
        scale = torch.tensor([2.0])  # shared by the rows
        for i, t in enumerate(self.scheduler.timesteps):
            with self.transformer.cache_context("cond_uncond", step_index=i):
                text_in = torch.cat([0 * text, text]) if copies == 2 else text
                both = self.transformer(
                    torch.cat([x] * copies), t.expand(copies * len(x)), text_in, scale
                )[0]
            x = self.scheduler.step(both.chunk(copies)[-1], t, x, return_dict=False)[0]
        self.transformer._reset_stateful_cache()
        return x


class TwoExpertsPipe(LinearPipe):
    """The second network owns the noise range below tau 0.8; without guidance, as a loop of its
    own that opens no context."""

    def __init__(self, first: LinearTransformer, second: LinearTransformer) -> None:
        super().__init__(first, unipc())
        self.transformer_2 = second
        self.config = SimpleNamespace(_name_or_path="some/where")

    @torch.no_grad()
    def __call__(
        self, prompt: list[str], generator: list[torch.Generator], output_type: str = "latent"
    ) -> torch.Tensor:
        self.scheduler.set_timesteps(12)
        x = torch.cat([torch.randn(1, 2, 3, 4, generator=g) for g in generator])
        for t in self.scheduler.timesteps:
            expert = self.transformer if t >= 800 else self.transformer_2
            output = expert(x, t.expand(len(x)), torch.zeros(len(x)))[0]
            x = self.scheduler.step(output, t, x, return_dict=False)[0]
        return x


class Wandering:
    """A sampler that turns back to more noise once, and stands still once."""

    config = {"num_train_timesteps": 1000}  # noqa: RUF012
    timesteps = torch.tensor([900, 800, 700, 800, 700, 600, 500, 400])

    def set_timesteps(self, steps: int) -> None:
        """They are fixed."""

    def set_begin_index(self, index: int) -> None:
        """Steps are told by their time."""

    def step(self, output: Any, t: Any, x: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        return (x if t == 600 else x - 0.1 * output,)


def test_two_experts_are_measured_in_one_run() -> None:
    pipe = TwoExpertsPipe(LinearTransformer(0.3, 2.0), LinearTransformer(0.6, 1.0))
    profile = measure(pipe, model=None, seeds=[4], batch_size=1)
    points = profile.branches["cond"]
    high = [point for point in points if point.tau >= 0.8]
    low = [point for point in points if point.tau < 0.8]
    assert [point.a_x for point in high] == pytest.approx([0.3] * len(high), rel=1e-3)
    assert [point.a_t for point in low] == pytest.approx([1.0] * len(low), rel=1e-3)
    # Of 12 steps the last of each expert has no next one of its own.
    assert len(high) + len(low) == 10
    first, second = len(high) + 1, len(low) + 1
    assert pipe.transformer.calls == [1] * (3 * first - 2)
    assert pipe.transformer_2.calls == [1] * (3 * second - 2)
    assert profile.metadata.network_evaluations == 3 * 12 - 4
    assert profile.metadata.model == "some/where"  # nobody said another
    assert profile.metadata.architecture == architecture_of(pipe.transformer)


def test_experts_of_two_architectures_are_both_accepted() -> None:
    pipe = TwoExpertsPipe(LinearTransformer(0.3, 2.0), LinearTransformer(0.6, 1.0))
    pipe.transformer_2.config.layers = 3
    profile = measure(pipe)
    for network in (pipe.transformer, pipe.transformer_2):
        profile.check(architecture=architecture_of(network))
    with pytest.raises(ProfileError, match="architecture"):
        profile.check(architecture="0123456789ab")


def test_networks_of_two_families_make_no_profile() -> None:
    pipe = TwoExpertsPipe(LinearTransformer(0.3, 2.0), LinearTransformer(0.6, 1.0))
    other = LTXVideoTransformer3DModel(
        num_attention_heads=1, attention_head_dim=8, cross_attention_dim=8, num_layers=1
    )
    pipe.transformer, pipe.transformer_2 = tiny_wan(), other  # type: ignore[assignment]
    with pytest.raises(ValueError, match="transformer wan, transformer_2 ltx"):
        calibrate(pipe, ["a"], progress=False)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_one_call_for_both_branches(guidance_scale: float, batch_size: int) -> None:
    pipe = OneCallPipe(LinearTransformer(-0.4, 1.5), unipc())
    profile = measure(
        pipe,
        seeds=range(4),
        batch_size=batch_size,
        call_kwargs={"guidance_scale": guidance_scale},
    )
    guided = guidance_scale > 1
    assert set(profile.branches) == ({"cond", "uncond"} if guided else {"cond"})
    for points in profile.branches.values():
        assert len(points) == 7
        for point in points:
            assert point.a_x == pytest.approx(0.8, rel=1e-3)
            assert point.a_t == pytest.approx(3.0, rel=1e-3)
    assert profile.metadata.network_evaluations == 4 * (2 if guided else 1) * (3 * 8 - 2)


def test_repeated_timesteps_of_heun_are_left_out() -> None:
    pipe = LinearPipe(LinearTransformer(0.5, 1.5), FlowMatchHeunDiscreteScheduler(shift=3.0))
    points = measure(pipe).branches["cond"]
    assert len(pipe.scheduler.timesteps) == 19
    assert len(points) == 9
    for point in points:
        assert point.a_x == pytest.approx(0.5, rel=1e-3)
        assert point.a_t == pytest.approx(1.5, rel=1e-3)


def test_steps_back_and_steps_that_do_not_move_are_left_out() -> None:
    profile = measure(LinearPipe(LinearTransformer(0.5, 1.5), Wandering()))
    taus = [point.tau for point in profile.branches["cond"]]
    assert taus == pytest.approx([0.9, 0.8, 0.7, 0.5])  # 0.8 and 0.7 come twice, 0.6 stands still
    assert profile.metadata.num_inference_steps == 8


def test_a_sampler_that_never_moves_makes_no_profile() -> None:
    scheduler = Wandering()
    scheduler.timesteps = torch.tensor([600, 600, 600])
    with pytest.raises(ProfileError, match="fewer than two steps of falling time"):
        measure(LinearPipe(LinearTransformer(0.5, 1.5), scheduler))


def test_timesteps_that_coincide_are_left_out() -> None:
    """UniPC rounds timesteps to whole numbers; many steps under a strong shift make equal ones."""
    scheduler = unipc()
    scheduler.register_to_config(flow_shift=30.0)
    pipe = LinearPipe(LinearTransformer(0.1, 0.2), scheduler)
    profile = measure(pipe, seeds=[0], call_kwargs={"num_inference_steps": 60})
    taus = [point.tau for point in profile.branches["cond"]]
    assert len(taus) < 59
    assert taus == sorted(set(taus), reverse=True)
