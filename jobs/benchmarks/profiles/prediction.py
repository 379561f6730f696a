"""Compares the predicted change of a network's output with the true one.

Cached runs show both at their refreshes only. Recorded uncached runs show both for every pair of
steps that a cache could bridge.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from jobs.benchmarks.profiles.bench import Bench
from pipeline.requests.sample_request import SampleRequest
from sencache import Family, SenCacheConfig, SensitivityProfile, family_of, networks_of
from sencache.extension import Branch, CallReader, attach, detach, is_paired, row_rms

MAX_GAP = 4
"""Largest distance from the last computed step: three reuses, and the refresh after them."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class PredictionAgreement:
    """How well the predicted changes of some steps agree with the true ones.

    Attributes:
        name: Name of the steps that are compared.
        pairs: Number of pairs of steps.
        spearman: Rank correlation of prediction and truth.
        ratio: Median of prediction / truth.
        distance_only: Rank correlation of the number of steps in between (in recorded runs: of the
            distance in tau) with the truth, as the result without a profile.
        along_path: For recorded runs: rank correlation and median ratio of a prediction from the
            joint change of the output per tau on the calibration clips, where input and time change
            together. It shows how much of the error comes from two terms that partly cancel.
    """

    name: str
    pairs: int
    spearman: float
    ratio: float
    distance_only: float
    along_path: tuple[float, float] | None = None


@dataclass(frozen=True)
class RecordedStep:
    """One branch of a batch at one step: tau [clips], latents and output [clips, ...]."""

    tau: torch.Tensor
    latents: torch.Tensor
    output: torch.Tensor


class RecordingHook(ModelHook):
    """Records the inputs and outputs of a network, in host memory."""

    _is_stateful = True

    def __init__(
        self, family: Family, num_train_timesteps: int, into: dict[Branch, list[RecordedStep]]
    ) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._family, self._unit, self._into = family, num_train_timesteps, into

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Call the network, record the call and return the network's output."""
        forward = self.fn_ref.original_forward
        call, output = (
            CallReader(self._family, module, forward)(args, kwargs),
            forward(*args, **kwargs),
        )
        context = self.state_manager._context
        branches: tuple[Branch, ...] = self._family.branches(context.name if context else None)
        if len(branches) > 1 and not is_paired(call.latents):
            branches = ("cond",)
        parts = (
            value.detach().float().cpu().clone().chunk(len(branches))
            for value in (call.tau(self._unit), call.latents, output[0])
        )
        for branch, *seen in zip(branches, *parts, strict=True):
            self._into.setdefault(branch, []).append(RecordedStep(*seen))
        return output

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Reset the context; recorded steps stay."""
        self.state_manager.reset()
        return module


def recorded_agreement(
    bench: Bench,
    requests: Sequence[SampleRequest],
    profile: SensitivityProfile,
    calibration: Sequence[SampleRequest],
) -> list[PredictionAgreement]:
    """Compare predicted and true change of all pairs of steps up to `MAX_GAP` apart.

    Args:
        bench: The model.
        requests: Held-out clips.
        profile: The profile whose predictions are tested.
        calibration: The clips that it was measured on, for the joint change along their paths.
    """
    rates = _path_rates(bench, calibration, profile)
    pairs: dict[tuple[Branch, int], list[tuple[Floats, ...]]] = {}
    for batch in bench.batches(requests):
        for branch, steps in _record(bench, batch, profile).items():
            curve = profile.curve(branch)
            for gap in range(1, MAX_GAP + 1):
                for r, j in zip(steps, steps[gap:], strict=False):
                    a_x, a_t = curve(r.tau)
                    distance = (j.tau - r.tau).abs()
                    predicted = a_x * row_rms(j.latents - r.latents) + a_t * distance
                    joint = torch.from_numpy(np.interp(r.tau, *rates[branch])) * distance
                    values = (predicted, row_rms(j.output - r.output), distance, joint)
                    pairs.setdefault((branch, gap), []).append(
                        tuple(value.double().numpy() for value in values)
                    )
    agreements = []
    for branch in dict.fromkeys(branch for branch, _ in pairs):
        groups = {gap: pairs[branch, gap] for gap in range(1, MAX_GAP + 1)}
        everything = [values for group in groups.values() for values in group]
        agreements.append(_agreement(f"recorded {branch}, 1 to {MAX_GAP} steps", everything))
        agreements += [
            _agreement(f"recorded {branch}, steps apart: {gap}", group)
            for gap, group in groups.items()
        ]
    return agreements


def cached_agreement(
    bench: Bench,
    requests: Sequence[SampleRequest],
    profile: SensitivityProfile,
    kind: str,
    configs: Mapping[str, SenCacheConfig],
) -> list[PredictionAgreement]:
    """Compare predicted and true change at the refreshes of cached runs, per setting and together.

    With a threshold, many refreshes occur just after the prediction has exceeded epsilon; so at one
    epsilon they lie close together and rank worse than all pairs of steps. With a plan, the change
    is the error of the forecast that the refresh replaces.

    Args:
        bench: The model.
        requests: Held-out clips.
        profile: The profile whose predictions are tested.
        kind: Name of the policy, for the table.
        configs: Settings by name.
    """
    agreements: list[PredictionAgreement] = []
    everything: list[tuple[Floats, ...]] = []
    for name, config in configs.items():
        found: list[tuple[Floats, ...]] = []
        for stats in bench.sample(requests, config, profile).stats:
            last = 0
            for refresh in stats.refreshes:
                if refresh.predicted is not None and refresh.actual is not None:
                    gap = float(refresh.step - last)
                    values = (refresh.predicted, refresh.actual, gap)
                    found.append(tuple(np.array([value]) for value in values))
                last = refresh.step
        agreements.append(_agreement(f"{kind}, {name}", found))
        everything += found
    agreements.append(_agreement(f"{kind}, all together", everything))
    return agreements


def spearman(a: Floats, b: Floats) -> float:
    """Return the rank correlation; ties get their mean rank; NaN if one list is constant."""
    rank_a, rank_b = _ranks(a), _ranks(b)
    if np.ptp(rank_a) == 0 or np.ptp(rank_b) == 0:
        return float("nan")
    return float(np.corrcoef(rank_a, rank_b)[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def _agreement(name: str, parts: Sequence[tuple[Floats, ...]]) -> PredictionAgreement:
    predicted, true, distance, *joint = map(np.concatenate, zip(*parts, strict=True))
    return PredictionAgreement(
        name,
        pairs=len(true),
        spearman=spearman(predicted, true),
        ratio=_median_ratio(predicted, true),
        distance_only=spearman(distance, true),
        along_path=(spearman(joint[0], true), _median_ratio(joint[0], true)) if joint else None,
    )


def _median_ratio(predicted: Floats, true: Floats) -> float:
    return float(np.median(predicted / np.maximum(true, np.finfo(np.float64).tiny)))


def _path_rates(
    bench: Bench, requests: Sequence[SampleRequest], profile: SensitivityProfile
) -> dict[Branch, tuple[Floats, Floats]]:
    """Per branch, tau rising and the mean over clips of rms(f_{i+1} - f_i) / |change of tau|."""
    rates: dict[Branch, dict[float, list[float]]] = {}
    for batch in bench.batches(requests):
        for branch, steps in _record(bench, batch, profile).items():
            for now, then in itertools.pairwise(steps):
                rate = row_rms(then.output - now.output) / (then.tau - now.tau).abs()
                at = rates.setdefault(branch, {}).setdefault(now.tau[0].item(), [])
                at.extend(rate.tolist())
    return {
        branch: (
            np.array(sorted(at)),
            np.array([np.mean(at[tau]) for tau in sorted(at)]),
        )
        for branch, at in rates.items()
    }


def _record(
    bench: Bench, batch: Sequence[SampleRequest], profile: SensitivityProfile
) -> dict[Branch, list[RecordedStep]]:
    """Record the networks' inputs and outputs of an uncached run, per branch in order of steps."""
    seen: dict[Branch, list[RecordedStep]] = {}
    networks = networks_of(bench.pipe).values()
    name, unit = "recording", profile.metadata.num_train_timesteps
    for network in networks:
        attach(network, RecordingHook(family_of(network), unit, seen), name)
    try:
        bench.run(batch, "latent")
    finally:
        for network in networks:
            detach(network, name)
    return seen
