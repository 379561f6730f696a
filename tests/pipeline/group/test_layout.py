from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import ParallelConfig
from pipeline.errors import UserError
from pipeline.group.layout import ALONE, CONTEXT_PARALLEL, OFFERED, XFUSER, Layout, choose_layout
from pipeline.models.registry import MODELS, get_model

WAN, COG, LTX, HUNYUAN = "wan2.1-t2v-1.3b", "cogvideox-5b", "ltx-video", "hunyuanvideo"


def chosen(name: str, device: str, **settings: Any) -> Layout:
    return choose_layout(ParallelConfig(**settings), get_model(name), device)


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_one_rank_needs_no_backend(device: str) -> None:
    assert chosen(WAN, device, degree=1, backend="xfuser") == ALONE
    assert ALONE.size == 1


@pytest.mark.parametrize(
    ("name", "device", "backend", "why"),
    [
        (WAN, "cuda", XFUSER, "auto: on GPUs"),
        (WAN, "cpu", CONTEXT_PARALLEL, "auto: xfuser needs GPUs"),
        (LTX, "cuda", CONTEXT_PARALLEL, "auto: xfuser is not offered for ltx"),
        (HUNYUAN, "cuda", CONTEXT_PARALLEL, "auto: xfuser is not offered for hunyuan_video"),
    ],
)
def test_auto_says_what_it_took_and_why(name: str, device: str, backend: str, why: str) -> None:
    layout = chosen(name, device, degree=4)
    assert (layout.backend, layout.ulysses, layout.ring, layout.reason) == (backend, 4, 1, why)
    assert layout.to_row() == {"backend": backend, "ulysses": 4, "ring": 1, "reason": why}


def test_a_ring_takes_its_ranks_from_the_degree() -> None:
    layout = chosen(WAN, "cuda", degree=8, ring=2, backend="context_parallel")
    assert (layout.ulysses, layout.ring, layout.size) == (4, 2, 8)
    assert layout.reason == "asked for"
    assert str(layout) == "context_parallel, Ulysses 4 x ring 2 (asked for)"


@pytest.mark.parametrize(
    ("name", "device", "settings", "message"),
    [
        (WAN, "cuda", {"degree": 6, "ring": 4}, r"ring 4 does not divide .* 6: use 1, 2, 3, 6"),
        (WAN, "cuda", {"degree": 1, "ring": 2}, r"ring 2 does not divide .* 1: use 1"),
        (WAN, "cpu", {"degree": 2, "backend": "xfuser"}, "xfuser needs GPUs: use context_parallel"),
        (COG, "cuda", {"degree": 2, "backend": "xfuser"}, "not offered for cogvideox-5b: use cont"),
        (COG, "cuda", {"degree": 2, "ring": 2}, "cogvideox-5b is split by Ulysses only"),
        (WAN, "cpu", {"degree": 2, "ring": 2}, r"--parallel\.ring 2 needs GPUs"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    name: str, device: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        chosen(name, device, **settings)


def test_every_model_is_split_by_some_backend() -> None:
    assert {spec.family for spec in MODELS.values()} == {family for _, family in OFFERED}
