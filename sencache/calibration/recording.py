"""Recording the outputs of an uncached run that a pipeline makes anyway.

Costs no network evaluation: a hook outside of every other sees the whole output of each call, also
where ranks share the network. What comes of it is the drift of the clip, from which a profile can
be made (`sencache.profiles.own_clips`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager

from sencache.calibration.outputs import OutputRecorder
from sencache.families.base import Family
from sencache.families.registry import family_of
from sencache.hook.attachment import attach, detach
from sencache.hook.call import Call, CallReader, is_paired
from sencache.hook.naming import CallNames
from sencache.hook.sampler_position import SamplerPosition
from sencache.pipelines import networks_of
from sencache.schedules.drift import Array

HOOK_NAME = "sencache_recording"


class OutputRecording:
    """The guided outputs of one call of a pipeline, over all its networks.

    Attributes:
        evaluations: Rows that went through the networks.
    """

    def __init__(self, num_train_timesteps: int) -> None:
        """Begin without outputs.

        Args:
            num_train_timesteps: What timesteps are divided by to get tau.
        """
        self.evaluations = 0
        self._unit = num_train_timesteps
        self._outputs = OutputRecorder()
        self._step, self._first = -1, ""

    @property
    def num_train_timesteps(self) -> int:
        """What timesteps are divided by to get tau."""
        return self._unit

    def add(
        self,
        family: Family,
        context: str | None,
        call: Call,
        output: torch.Tensor,
        guidance_scale: float | None,
    ) -> None:
        """Keep the output of one network call.

        Args:
            family: Of the network.
            context: Name of the call's cache context, if it has one.
            call: The call.
            output: What the network returned; several outputs joined to one.
            guidance_scale: Of this network; None where its calls have one branch.
        """
        name = context or ""
        branches = family.branches(context) if context else ("cond",)
        if len(branches) > 1 and not is_paired(call.latents):
            branches = ("cond",)  # a context of both branches, with guidance off
        if self._step < 0:
            self._first = name  # its calls count the steps
        self._step += name == self._first
        self.evaluations += call.rows
        tau = call.tau(self._unit).max().item()
        self._outputs.add(self._step, tau, branches, output, guidance_scale)

    def outputs(self) -> torch.Tensor:
        """What the sampler got at each step, shape [T, clips, elements], float32 on the CPU."""
        return self._outputs.outputs()

    def drift(self, steps: int) -> tuple[tuple[float, ...], Array]:
        """Times and distances of the run's outputs.

        Args:
            steps: Steps of the sampler.

        Returns:
            tau of each step, shape [T], and D, shape [T, T].

        Raises:
            ValueError: The calls do not show one output per step at falling times, as plans need:
                a sampler that calls the network twice a step, or branches without names.
        """
        tau = self._outputs.taus()
        if len(tau) != steps or steps < 3 or not bool((np.diff(tau) < 0).all()):
            raise ValueError(
                f"the pipeline called its network for {len(tau)} times that fall or repeat in "
                f"{steps} steps; a drift needs one time per step, falling, and at least 3 steps"
            )
        return tau, self._outputs.distances()


class OutputHook(ModelHook):
    """Hands the outputs of one network to a recording and changes nothing."""

    _is_stateful = True  # so that diffusers tells it the cache context

    def __init__(
        self,
        family: Family,
        recording: OutputRecording,
        sampler: SamplerPosition,
        guidance_scale: float | None,
    ) -> None:
        super().__init__()
        self.state_manager = StateManager(BaseState)
        self._family, self._recording, self._sampler = family, recording, sampler
        self._names, self._scale = CallNames(family, sampler), guidance_scale
        self._read: CallReader | None = None

    @torch.compiler.disable
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the network's own output after recording it."""
        if self._read is None:
            self._read = CallReader(self._family, module, self.fn_ref.original_forward)
        call = self._read(args, kwargs)
        answer = self.fn_ref.original_forward(*args, **kwargs)
        context = self.state_manager._context
        name = self._names.name(context.name if context else None, call)
        call = self._names.timed(call, self._sampler.step(), self._recording.num_train_timesteps)
        self._recording.add(self._family, name, call, call.output(answer), self._scale)
        return answer

    def reset_state(self, module: torch.nn.Module) -> torch.nn.Module:
        """Forget the context; the recording stays."""
        self.state_manager.reset()
        return module


@contextmanager
def recorded_outputs(
    pipe: Any, guidance_scale: float | None, guidance_scale_2: float | None = None
) -> Iterator[OutputRecording]:
    """Record what the networks of a pipeline answer within the block.

    Enter it after caches are applied, with policy none or no cache at all.

    Args:
        pipe: A diffusers pipeline.
        guidance_scale: Of classifier-free guidance, which the sampler sees the result of; None
            where the network takes the scale as an input, or guidance is off.
        guidance_scale_2: Scale of a second network; None: it has the same.

    Raises:
        ValueError: The pipeline has no transformer, or its class is unknown.
    """
    unit = int(pipe.scheduler.config["num_train_timesteps"])
    recording, sampler = OutputRecording(unit), SamplerPosition(lambda: pipe.scheduler)
    second = guidance_scale if guidance_scale_2 is None else guidance_scale_2
    networks = [(name, each, family_of(each)) for name, each in networks_of(pipe).items()]
    with ExitStack() as attached:
        for name, network, family in networks:
            scale = second if name == "transformer_2" else guidance_scale
            attach(network, OutputHook(family, recording, sampler, scale), HOOK_NAME)
            attached.callback(detach, network, HOOK_NAME)
        yield recording
