"""Driving a cached linear network step by step, as a pipeline would."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sencache import SenCacheConfig, SenCacheHandle, SensitivityProfile, apply_sencache
from tests.sencache.support.toys import LINEAR, LinearTransformer, make_profile

GAIN_X, GAIN_T = 2.0, 3.0
TAUS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
LOOSE = SenCacheConfig(epsilon=1e9, strict_fraction=0.0, max_reuse=2)


def cached(
    config: SenCacheConfig, profile: SensitivityProfile | None = None
) -> tuple[LinearTransformer, SenCacheHandle]:
    transformer = LinearTransformer(GAIN_X, GAIN_T)
    profile = profile or make_profile(GAIN_X, GAIN_T, family="linear")
    return transformer, apply_sencache(transformer, config, profile, family=LINEAR)


def latents(speeds: Sequence[float], step: int) -> torch.Tensor:
    """Every element of row i moves by speeds[i] per step, downwards like tau."""
    speed = torch.tensor(speeds).view(-1, 1, 1, 1)
    return torch.ones(len(speeds), 2, 3, 4) * (5.0 - speed * step)


def drive(
    transformer: LinearTransformer,
    speeds: Sequence[float],
    *,
    contexts: Sequence[str] = ("cond", "uncond"),
    publish: bool = True,
    steps: int = len(TAUS),
    text: float = 0.0,
) -> list[dict[str, torch.Tensor]]:
    """Call the network as a pipeline does; the outputs per step and context."""
    outputs = []
    rows = {name: len(speeds) * (2 if name == "cond_uncond" else 1) for name in contexts}
    conditions = {name: torch.full((count,), text) for name, count in rows.items()}
    for step in range(steps):
        where = {"step_index": step, "num_inference_steps": len(TAUS)} if publish else {}
        x, t = latents(speeds, step), torch.full((len(speeds),), 1000 * TAUS[step])
        outputs.append({})
        for name in contexts:
            copies = 2 if name == "cond_uncond" else 1
            with transformer.cache_context(name, **where):
                outputs[-1][name] = transformer(
                    x.repeat(copies, 1, 1, 1), t.repeat(copies), conditions[name], return_dict=False
                )[0]
    return outputs


def finish(transformer: LinearTransformer) -> None:
    """What a pipeline does at the end of its call."""
    transformer._reset_stateful_cache()


def decisions(handle: SenCacheHandle) -> list[str]:
    return [sample.decisions for sample in handle.stats()]
