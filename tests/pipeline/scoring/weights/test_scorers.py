"""Scorers with weights against the models' own forward passes, on tiny random models."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.scoring.panel import ScorerPanel
from pipeline.scoring.registry import load_scorers
from pipeline.scoring.scorer import ScoredClip, Scorer
from tests.pipeline.scoring.weights import tiny_models

CAPTION = "a red ball rolls"


def made(frames: int = 16, caption: str = CAPTION) -> ScoredClip:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)
    return ScoredClip(pixels, 8.0, caption, {})


def one(scorer: str) -> Scorer:
    (found,) = load_scorers([scorer])
    return found


def seen(clip: ScoredClip) -> np.ndarray[Any, Any]:
    """The frames that models look at, of a clip of 16 frames or of fewer than 8."""
    places = [0, 2, 4, 6, 9, 11, 13, 15] if len(clip.frames) == 16 else range(len(clip.frames))
    return clip.frames[list(places)]


@pytest.mark.parametrize("frames", [16, 3])
def test_clip_s_own_logits_give_text_alignment(tmp_path: Path, frames: int) -> None:
    model, clip = tiny_models.clip(tmp_path), made(frames)
    ids = torch.tensor([tiny_models.tokens(CAPTION)])
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=tiny_models.pixels(seen(clip)))
    each = 100 * out.logits_per_image[:, 0] / model.logit_scale.exp().item()
    (found,) = one(f"text-alignment={tmp_path}").score([clip])
    assert found["text_alignment"] == pytest.approx(each.mean().item(), abs=1e-3)
    assert found["text_alignment_min"] == pytest.approx(each.min().item(), abs=1e-3)
    assert found["text_alignment_min"] < found["text_alignment"]


def test_siglip_reads_padded_captions(tmp_path: Path) -> None:
    model, clip = tiny_models.siglip(tmp_path), made()
    ids = tiny_models.tokens(CAPTION)
    padded = torch.tensor([ids + [0] * (8 - len(ids))])
    with torch.no_grad():
        out = model(input_ids=padded, pixel_values=tiny_models.pixels(seen(clip)))
    cosine = (out.logits_per_image[:, 0] - model.logit_bias.item()) / model.logit_scale.exp().item()
    (found,) = one(f"text-alignment={tmp_path}").score([clip])
    assert found["text_alignment"] == pytest.approx(100 * cosine.mean().item(), abs=1e-3)


def test_long_captions_are_cut_and_captions_differ(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path)
    scorer = one(f"text-alignment={tmp_path}")
    long = scorer.score([made(caption="a red ball " * 40)])[0]
    assert np.isfinite(long["text_alignment"])
    assert long != scorer.score([made(caption="a blue cat")])[0]


def test_several_threads_get_what_one_gets(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path)
    scorer = one(f"text-alignment={tmp_path}")
    clips = [made(n, caption) for n in (3, 5, 16) for caption in ("a cat", "a red ball rolls")]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda clip: scorer.score([clip])[0], clips))
    assert found == list(scorer.score(clips))


@pytest.mark.parametrize("widths", [(), (8, 4)])
def test_aesthetics_is_the_head_s_output_on_unit_embeddings(
    tmp_path: Path, widths: tuple[int, ...]
) -> None:
    model, clip = tiny_models.clip(tmp_path / "clip"), made()
    torch.manual_seed(3)
    sizes = [12, *widths, 1]
    parts = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    # LAION's MLP has dropout between its layers, so their numbers leave gaps; 10 comes after 2.
    names = ["layers.0.", "layers.2.", "layers.10."] if widths else [""]
    head = tmp_path / "head.safetensors"
    save_file(
        {
            f"{name}{kind}": getattr(part, kind).data
            for name, part in zip(names, parts, strict=True)
            for kind in ("weight", "bias")
        },
        head,
    )
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([[4, 1]]), pixel_values=tiny_models.pixels(seen(clip))
        ).image_embeds  # of length 1 here
        expected = torch.nn.Sequential(*parts)(out).mean().item()
    scorer = one(f"aesthetics={tmp_path / 'clip'}+{head}")
    assert scorer.score([clip])[0]["aesthetics"] == pytest.approx(expected, abs=1e-4)
    version = scorer.version
    save_file({"weight": torch.zeros(1, 12), "bias": torch.zeros(1)}, head)
    assert one(f"aesthetics={tmp_path / 'clip'}+{head}").version != version


@pytest.mark.parametrize("several", [False, True])
def test_every_label_has_a_mean_and_a_greatest_probability(tmp_path: Path, several: bool) -> None:
    options = {"problem_type": "multi_label_classification"} if several else {}
    model = tiny_models.classifier(tmp_path, ("normal", "NSFW (hard)"), **options)
    clip = made()
    with torch.no_grad():
        logits = model(pixel_values=tiny_models.pixels(seen(clip))).logits
    shares = logits.sigmoid() if several else logits.softmax(dim=1)
    scorer = one(f"image-classes={tmp_path}")
    assert scorer.scores == (
        *("class_normal", "class_normal_max", "class_nsfw_hard_", "class_nsfw_hard__max"),
    )
    (found,) = scorer.score([clip])
    assert found["class_normal"] == pytest.approx(shares[:, 0].mean().item(), abs=1e-5)
    assert found["class_nsfw_hard__max"] == pytest.approx(shares[:, 1].max().item(), abs=1e-5)
    panel = ScorerPanel([scorer], "class_normal < 2")
    assert panel.score(clip).missing == ""


def test_the_version_is_a_hash_of_the_weights(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path)
    version = one(f"text-alignment={tmp_path}").version
    assert version == one(f"text-alignment={tmp_path}:cpu").version
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert one(f"text-alignment={tmp_path}").version != version


def test_mistakes_are_one_line_before_anything_is_scored(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path / "clip")
    tiny_models.classifier(tmp_path / "vit", ("a", "b"))
    tiny_models.classifier(tmp_path / "many", tuple(f"l{n}" for n in range(40)))
    (tmp_path / "empty").mkdir()
    save_file({"weight": torch.zeros(3, 12), "bias": torch.zeros(3)}, tmp_path / "x.safetensors")
    for scorer, problem in (
        ("text-alignment", "needs weights"),
        (f"text-alignment={tmp_path}/empty", "no *.safetensors"),
        (f"text-alignment={tmp_path}/vit", "a vit model; it should embed images and texts"),
        ("text-alignment=nobody/nothing", "nobody/nothing"),
        (f"image-classes={tmp_path}/many", "40 labels"),
        (f"aesthetics={tmp_path}/clip", "MODEL+HEAD.safetensors"),
        (f"aesthetics={tmp_path}/clip+{tmp_path}/none", "cannot read"),
        (f"aesthetics={tmp_path}/clip+{tmp_path}/x.safetensors", "is no head"),
    ):
        with pytest.raises(UserError, match="--scorers") as caught:
            load_scorers([scorer])
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
