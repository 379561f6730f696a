"""xfuser as it is on a machine without a GPU: it would run, and share nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from pipeline.errors import UserError
from pipeline.parallel import xfuser
from pipeline.parallel.layout import XFUSER, ParallelLayout


def test_ranks_that_would_share_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from xfuser.core.distributed import parallel_state

    asked: dict[str, Any] = {}
    monkeypatch.setattr(parallel_state, "init_distributed_environment", lambda **_: None)
    monkeypatch.setattr(parallel_state, "initialize_model_parallel", asked.update)
    monkeypatch.setattr(dist, "get_world_size", lambda *_: 4)
    monkeypatch.setattr(dist, "get_rank", lambda *_: 0)
    with pytest.raises(UserError, match=r"runs Ulysses 1 x ring 1 instead of 2 x 2.* no GPU"):
        xfuser.join_ranks(ParallelLayout(XFUSER, ulysses=2, ring=2), torch.device("cpu"))
    assert (asked["ulysses_degree"], asked["ring_degree"]) == (2, 2)
    assert asked["sequence_parallel_degree"] == 4
