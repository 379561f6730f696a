from __future__ import annotations

import pytest
import torch

from sencache.calibration.outputs import OutputRecorder

STEPS, CLIPS, SHAPE = 5, 3, (2, 3, 4)


def outputs(seed: int) -> torch.Tensor:
    return torch.randn(STEPS, CLIPS, *SHAPE, generator=torch.Generator().manual_seed(seed))


def wanted(guided: torch.Tensor) -> torch.Tensor:
    difference = (guided[:, None] - guided[None]).double()
    return difference.square().flatten(2).mean(2)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("scale", [4.0, 1.5])
def test_distances_are_those_of_the_guided_output(batched: bool, scale: float) -> None:
    cond, uncond = outputs(0), outputs(1)
    recorder = OutputRecorder()
    for step in range(STEPS):
        tau = 1 - step / STEPS
        if batched:
            both = torch.cat([uncond[step], cond[step]])
            recorder.add(step, tau, ("uncond", "cond"), both, scale)
        else:
            recorder.add(step, tau, ("cond",), cond[step], scale)
            recorder.add(step, tau, ("uncond",), uncond[step], scale)
    guided = uncond + scale * (cond - uncond)
    assert torch.allclose(torch.from_numpy(recorder.distances()), wanted(guided), atol=1e-5)
    assert recorder.taus() == tuple(1 - step / STEPS for step in range(STEPS))


def test_without_guidance_the_output_is_cond() -> None:
    cond = outputs(0)
    recorder = OutputRecorder()
    for step in range(STEPS):
        recorder.add(step, 1 - step / STEPS, ("cond",), cond[step], None)
    assert torch.allclose(torch.from_numpy(recorder.distances()), wanted(cond), atol=1e-5)


def test_small_distances_between_large_outputs_are_not_lost() -> None:
    base = 100 * torch.randn(1, 1, 1000, generator=torch.Generator().manual_seed(0))
    recorder = OutputRecorder()
    for step in range(STEPS):
        recorder.add(step, 1 - step / STEPS, ("cond",), (base + 1e-3 * step)[0], None)
    told = recorder.distances()
    assert told[0, 4] == pytest.approx((4e-3) ** 2, rel=0.02)
