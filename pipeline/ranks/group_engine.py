"""The engine of an actor that owns several ranks, and the loading of the engine inside each."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engine.protocol import Clip, Engine, EngineDiedError
from pipeline.errors import UserError
from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.memory.preflight import LargestCall, check_fits, device_memory, try_largest
from pipeline.models.spec import ResolvedModel
from pipeline.parallel.layout import ParallelLayout
from pipeline.parallel.rank_role import RankRole
from pipeline.process import set_allocator
from pipeline.ranks.failures import GroupError, RankRaisedError
from pipeline.ranks.group import RankGroup
from pipeline.ranks.messages import Handler, MakeHandler, RankContext
from pipeline.ranks.processes import GroupSpec, visible_devices
from pipeline.requests.sample_request import SampleRequest

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=20)
"""Far above any step and far below Ray Data's limit; the owner's timeouts are much shorter."""


@dataclass(frozen=True)
class LoadRank:
    """Loads one rank's share of a model; picklable.

    Attributes:
        model: From `resolve_model`.
        layout: How the ranks share it.
        device: `cpu` or `cuda`.
        dtype: Torch dtype name; "" for the model's own.
        profile_json: Text of the sensitivity profile, "" without.
        threads: CPU threads of torch in each rank.
        options: Further settings of the engine.
        largest: The largest call of the run, which GPUs try when they have loaded.
        steps: Of a clip whose row says nothing else; 0 where no driver has said of them.
    """

    model: ResolvedModel
    layout: ParallelLayout
    device: str
    dtype: str = ""
    profile_json: str = ""
    threads: int = 1
    options: EngineOptions = DEFAULT
    largest: LargestCall | None = None
    steps: int = 0

    def __call__(self, context: RankContext) -> Handler:
        """Join the other ranks and load; called in every rank at once."""
        import torch
        import torch.distributed as dist

        torch.set_num_threads(self.threads)
        # GPU ranks use both, so that decisions made on the host need not travel over the device.
        on_gpu = torch.device(self.device).type == "cuda"
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "cpu:gloo"
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
        return RankHandler(self.load(context))

    def load(self, context: RankContext) -> Engine:
        """Load this rank's engine, after the ranks have joined."""
        import torch
        import torch.distributed as dist

        from pipeline.engine.diffusers_engine import DiffusersEngine
        from pipeline.models.memory.tried_engine import TriedEngine
        from pipeline.models.profile import leave_to_driver
        from pipeline.parallel.split import load_split
        from sencache import RankAgreement, SensitivityProfile

        own = torch.device(self.device)
        memory, card = device_memory(own)
        check_fits(self.largest, self.model.spec, memory, card)
        leave_to_driver(self.steps)
        context.mark("the weights")
        pipe = load_split(self.model, self.layout, self.device, self.dtype, self.options)
        role = RankRole(
            layout=self.layout,
            decodes=context.rank == 0 or self.layout.vae,
            answers=context.rank == 0,
            # Decisions are made on the host, so they travel by gloo even between GPUs.
            agreement=RankAgreement(dist.new_group(backend="gloo")),
            mark=context.mark,
        )
        profile = SensitivityProfile.from_json(self.profile_json) if self.profile_json else None
        engine = DiffusersEngine(self.model, pipe, profile=profile, role=role, options=self.options)
        if own.type != "cuda":
            return engine
        if self.model.parts != "all":
            return TriedEngine(engine, self.largest, self.model.spec)
        try_largest(engine.generate, self.largest, self.model.spec, card)
        return engine


@dataclass(frozen=True)
class RankFacts:
    """What the owner asks a group once, for its output rows.

    Attributes:
        device_name: Of rank 0.
    """

    device_name: str


@dataclass(frozen=True)
class RankHandler:
    """Answers requests inside a rank.

    Attributes:
        engine: Of this rank.
    """

    engine: Engine

    def __call__(self, payload: Sequence[SampleRequest]) -> Any:
        """The clips of requests, or the facts where there are none."""
        if not payload:
            return RankFacts(self.engine.device_name)
        return self.engine.generate(payload)


class GroupEngine:
    """An `Engine` over a group of ranks.

    Attributes:
        device_name: Of rank 0.
        group_size: Ranks.
        disagreements: Decisions so far in which some rank would have decided differently from the
            group. A few come from rounding; many are a fault.
    """

    def __init__(self, load: MakeHandler, spec: GroupSpec) -> None:
        """Start the ranks; this process loads no copy of the model.

        Raises:
            UserError: The ranks cannot load the model.
        """
        try:
            self._group = RankGroup(load, spec)
            facts: RankFacts = self._group.ask(())
        except GroupError as error:
            if isinstance(error, RankRaisedError) and error.kind == UserError.__name__:
                raise UserError(error.message) from error
            raise UserError(f"a group of {spec.size} ranks could not start: {error}") from error
        self.device_name, self.group_size = facts.device_name, spec.size
        self.disagreements = 0

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request, in order.

        Raises:
            EngineDiedError: The group is lost.
            UserError: No request with these settings can be served.
            GroupError: All ranks refused the request alike; the group goes on.
        """
        first = requests[0]
        work = len(requests) * first.num_frames * first.width * first.height
        try:
            clips: list[Clip] = self._group.ask(list(requests), work=work)
        except GroupError as error:
            if isinstance(error, RankRaisedError) and error.kind == UserError.__name__:
                raise UserError(error.message) from error
            if error.alive:
                raise
            raise EngineDiedError(str(error)) from error
        self.disagreements += clips[0].cache["disagreements"]  # of the call, in each of its rows
        return clips

    def close(self) -> None:
        """End every rank."""
        self._group.close()


def load_group(load: LoadRank) -> GroupEngine:
    """Start a group on the devices that Ray gave to this process; called by a picklable factory."""
    logger.info("%s: %s", load.model.spec.name, load.layout)
    set_allocator()  # the ranks inherit it
    devices = visible_devices() if load.device == "cuda" else ()
    return GroupEngine(load, GroupSpec(load.layout.size, devices, load.threads))
