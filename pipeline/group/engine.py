"""The engine of an actor that owns several ranks, and the engine inside each of them."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engine import Clip, EngineDiedError
from pipeline.errors import UserError
from pipeline.group.errors import GroupError, RankRaisedError
from pipeline.group.messages import RankContext, Worker
from pipeline.group.parent import RankGroup
from pipeline.group.spec import GroupSpec, visible_devices
from pipeline.models.spec import ResolvedModel
from pipeline.request import SampleRequest

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=20)
"""Far above any step, far below Ray Data's limit: the parent's own deadlines are the sharp ones."""


@dataclass(frozen=True)
class LoadRank:
    """Loads one rank's share of a model; picklable.

    Attributes:
        model: From `resolve_model`.
        device: `cpu` or `cuda`.
        dtype: Torch dtype name; "" for the model's own.
        profile_json: Text of the sensitivity profile, "" without.
        threads: CPU threads of torch in each rank.
    """

    model: ResolvedModel
    device: str
    dtype: str = ""
    profile_json: str = ""
    threads: int = 1

    def __call__(self, context: RankContext) -> Worker:
        """Load; called in every rank at once."""
        import torch
        import torch.distributed as dist

        from pipeline.diffusers_engine import DiffusersEngine, Seat
        from pipeline.group.context_parallel import check_divides, split_sequence
        from pipeline.models.load import load_pipeline
        from sencache import RankAgreement, SensitivityProfile, networks_of

        torch.set_num_threads(self.threads)
        device = torch.device(self.device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
        pipe = load_pipeline(self.model, self.device, self.dtype)
        for network in networks_of(pipe).values():
            split_sequence(network, device)
        seat = Seat(
            size=context.size,
            decodes=context.rank == 0,
            # Verdicts are known on the host, so they travel by gloo even between GPUs.
            agreement=RankAgreement(dist.new_group(backend="gloo")),
            mark=context.mark,
        )
        profile = SensitivityProfile.from_json(self.profile_json) if self.profile_json else None
        engine = DiffusersEngine(self.model, pipe, profile=profile, seat=seat)
        return Rank(engine, functools.partial(check_divides, pipe, ranks=context.size))


@dataclass(frozen=True)
class Facts:
    """Asked of ranks once: what the parent's rows must hold.

    Attributes:
        device_name: Of rank 0.
    """

    device_name: str


@dataclass(frozen=True)
class Rank:
    """Answers requests in a rank.

    Attributes:
        engine: Of this rank.
        check: Raises ValueError for a width, height and number of frames that ranks cannot share.
    """

    engine: Any
    check: Callable[[int, int, int], None]

    def __call__(self, payload: Sequence[SampleRequest]) -> Any:
        """Clips of requests; facts where there are none."""
        if not payload:
            return Facts(self.engine.device_name)
        self.check(payload[0].width, payload[0].height, payload[0].num_frames)
        return self.engine.generate(payload)


class GroupEngine:
    """An `Engine` over a group of ranks.

    Attributes:
        device_name: Of rank 0.
        group_size: Ranks.
    """

    def __init__(self, load: LoadRank, spec: GroupSpec) -> None:
        """Start the ranks; a second copy of the model is never loaded here.

        Raises:
            UserError: They cannot load the model.
        """
        try:
            self._group = RankGroup(load, spec)
            facts: Facts = self._group.ask(())
        except GroupError as error:
            if isinstance(error, RankRaisedError) and error.kind == UserError.__name__:
                raise UserError(error.message) from error
            raise UserError(f"a group of {spec.size} ranks could not start: {error}") from error
        self.device_name, self.group_size = facts.device_name, spec.size

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """See `Engine`.

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
        return clips

    def close(self) -> None:
        """End every rank."""
        self._group.close()


def load_group(load: LoadRank, size: int) -> GroupEngine:
    """Start a group on the devices that Ray gave this process; a picklable factory's target."""
    devices = visible_devices() if load.device == "cuda" else ()
    return GroupEngine(load, GroupSpec(size, devices, load.threads))
