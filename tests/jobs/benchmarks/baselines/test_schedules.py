from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jobs.benchmarks.baselines import (
    FirstThenEvery,
    UniformSkipping,
    UniformTaylor,
    UnsupportedError,
)
from tests.sencache.support.toys import (
    CountRows,
    euler,
    sample,
    tiny_pipe,
    unipc,
)

STEPS = 12


def wanted_steps(baseline: Any, computed: int) -> list[int]:
    if isinstance(baseline, FirstThenEvery):
        return [0, 1, *np.linspace(2, STEPS - 1, computed - 2).round().astype(int).tolist()]
    return np.linspace(0, STEPS - 1, computed).round().astype(int).tolist()


@pytest.mark.parametrize("baseline", [UniformSkipping(), FirstThenEvery(), UniformTaylor()])
@pytest.mark.parametrize("computed", [5, 7])
@pytest.mark.parametrize("scheduler", [euler, unipc])
def test_exactly_the_laid_out_steps_run(baseline: Any, computed: int, scheduler: Any) -> None:
    pipe = tiny_pipe(scheduler())
    counter = CountRows(pipe.transformer.patch_embedding)
    before = dict(vars(pipe.transformer))
    with baseline.budgeted(computed, STEPS).applied(pipe) as decisions:
        sample(pipe, [1, 2], STEPS)
    wanted = wanted_steps(baseline, computed)
    assert decisions() == ["".join("RC"[step in wanted] for step in range(STEPS))] * 2
    assert counter.rows == [2] * 2 * computed
    after = dict(vars(pipe.transformer))
    assert after.keys() - {"_diffusers_hook"} == before.keys() - {"_diffusers_hook"}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_output_is_held_or_extrapolated_over_time(order: int) -> None:
    """Against a loop that asks the network and numpy's polynomials."""
    baseline: Any = UniformSkipping() if order == 0 else UniformTaylor(taylor_order=order)
    pipe = tiny_pipe()
    with baseline.budgeted(5, STEPS).applied(pipe):
        got = sample(pipe, [1, 2], STEPS)
    pipe.scheduler.set_timesteps(STEPS)
    times = pipe.scheduler.timesteps.double().numpy() / 1000
    wanted = wanted_steps(baseline, 5)
    known: list[dict[int, torch.Tensor]] = [{}, {}]
    original, calls = pipe.transformer.forward, iter(range(2 * STEPS))

    def by_hand(**arguments: Any) -> tuple[torch.Tensor]:
        step, branch = divmod(next(calls), 2)
        outputs = known[branch]
        if step in wanted:
            outputs[step] = original(**arguments)[0]
            return (outputs[step],)
        anchors = sorted(outputs)[-(order + 1) :]
        values = np.stack([outputs[a].double().numpy().ravel() for a in anchors])
        fit = np.polynomial.polynomial.polyfit(times[anchors], values, len(anchors) - 1)
        forecast = np.polynomial.polynomial.polyval(times[step], fit)
        return (torch.from_numpy(forecast).float().view_as(outputs[anchors[0]]),)

    pipe.transformer.forward = by_hand  # type: ignore[method-assign]
    assert torch.allclose(got, sample(pipe, [1, 2], STEPS), atol=1e-3)


def test_all_steps_are_the_uncached_run() -> None:
    pipe = tiny_pipe()
    plain = sample(pipe, [1], STEPS)
    with UniformTaylor().budgeted(STEPS, STEPS).applied(pipe):
        assert torch.equal(sample(pipe, [1], STEPS), plain)


def test_another_run_than_the_one_laid_out_for_is_refused() -> None:
    pipe = tiny_pipe()
    with (
        UniformSkipping().budgeted(5, STEPS).applied(pipe),
        pytest.raises(UnsupportedError, match="laid out for 12 steps, the run has 8"),
    ):
        sample(pipe, [1], 8)


def test_a_budget_within_the_first_fifth_has_no_schedule() -> None:
    with pytest.raises(UnsupportedError, match="no schedule of 2 of 12"):
        FirstThenEvery().budgeted(2, STEPS)
