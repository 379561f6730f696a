from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.sections import ParallelConfig
from pipeline.errors import UserError
from pipeline.models.registry import MODELS, get_model
from pipeline.parallel.layout import (
    ALONE,
    CONTEXT_PARALLEL,
    XFUSER,
    ParallelLayout,
    choose_layout,
)

WAN, COG, LTX, HUNYUAN = "wan2.1-t2v-1.3b", "cogvideox-5b", "ltx-video", "hunyuanvideo"


def chosen(name: str, device: str, **settings: Any) -> ParallelLayout:
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
    row = {"backend": backend, "ulysses": 4, "ring": 1, "reason": why, "cfg": 1, "vae": False}
    assert layout.to_row() == row


def test_a_ring_takes_its_ranks_from_the_degree() -> None:
    layout = chosen(WAN, "cuda", degree=8, ring=2, backend="context_parallel")
    assert (layout.ulysses, layout.ring, layout.size) == (4, 2, 8)
    assert layout.reason == "asked for"
    assert str(layout) == "context_parallel, Ulysses 4 x ring 2 (asked for)"


def test_branches_of_guidance_take_half_of_the_ranks_each() -> None:
    layout = chosen(WAN, "cuda", degree=8, cfg=2, ring=2)
    assert (layout.cfg, layout.ulysses, layout.ring) == (2, 2, 2)
    assert (layout.size, layout.sequence) == (8, 4)
    assert str(layout) == "2 branches of guidance x xfuser, Ulysses 2 x ring 2 (auto: on GPUs)"
    layout.check_even(12)
    with pytest.raises(ValueError, match="9 tokens cannot be shared evenly by Ulysses 2 x ring 2"):
        layout.check_even(9)


@pytest.mark.parametrize("cfg", [1, 2])
def test_all_ranks_decode_where_they_are_asked_to(cfg: int) -> None:
    layout = chosen(WAN, "cuda", degree=2, cfg=cfg, vae=True)
    assert (layout.vae, layout.cfg, layout.size) == (True, cfg, 2)
    assert ", decoding shared (" in str(layout)


def test_branches_alone_need_no_backend() -> None:
    layout = chosen(COG, "cpu", degree=2, cfg=2)
    assert layout == ParallelLayout(cfg=2, reason="no tokens are split")
    assert str(layout) == "2 branches of guidance (no tokens are split)"


@pytest.mark.parametrize(
    ("name", "device", "settings", "message"),
    [
        (WAN, "cuda", {"degree": 6, "ring": 4}, r"ring 4 does not divide .* 6: use 1, 2, 3, 6"),
        (WAN, "cuda", {"degree": 1, "ring": 2}, r"ring 2 does not divide .* 1: use 1"),
        (WAN, "cpu", {"degree": 2, "backend": "xfuser"}, "xfuser needs GPUs: use context_parallel"),
        (COG, "cuda", {"degree": 2, "backend": "xfuser"}, "not offered for cogvideox-5b: use cont"),
        (COG, "cuda", {"degree": 2, "ring": 2}, "cogvideox-5b is split by Ulysses only"),
        (WAN, "cpu", {"degree": 2, "ring": 2}, r"--parallel\.ring 2 needs GPUs"),
        (WAN, "cpu", {"degree": 3, "cfg": 2}, r"cfg 2 needs an even --parallel\.degree, not 3"),
        (WAN, "cuda", {"degree": 1, "cfg": 2}, r"cfg 2 needs an even --parallel\.degree, not 1"),
        (WAN, "cuda", {"degree": 6, "cfg": 2, "ring": 2}, r"6 / --parallel\.cfg 2: use 1, 3"),
        (HUNYUAN, "cuda", {"degree": 2, "cfg": 2}, "guidance of hunyuanvideo is distilled"),
        (WAN, "cuda", {"degree": 1, "vae": True}, r"vae needs a --parallel\.degree of 2 or more"),
        (LTX, "cuda", {"degree": 2, "vae": True}, r"vae: DistVAE, .*, has none for ltx-video"),
        (COG, "cpu", {"degree": 4, "vae": True}, r"vae: DistVAE, .*, has none for cogvideox-5b"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    name: str, device: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        chosen(name, device, **settings)


def test_without_the_extra_diffusers_splits_and_what_only_it_can_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    layout = chosen(WAN, "cuda", degree=2)
    assert layout.backend == CONTEXT_PARALLEL
    assert layout.reason.endswith(
        "xfuser is not installed: pip install 'sencache-pipeline[xfuser]'"
    )
    with pytest.raises(UserError, match=r"xfuser is not installed: .*\[xfuser\]', or use context_"):
        chosen(WAN, "cuda", degree=2, backend="xfuser")
    with pytest.raises(
        UserError, match=r"distvae is not installed: .*\[xfuser\]', or leave it out"
    ):
        chosen(WAN, "cpu", degree=2, cfg=2, vae=True)


def test_every_model_is_split_by_some_backend() -> None:
    assert all(spec.family.splits for spec in MODELS.values())
