"""Scenes of photographs: the split, the words, and that things move as captions say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from rich.console import Console
from torch import Tensor

from jobs.benchmarks.demo_model.architecture import make_tokenizer
from jobs.benchmarks.demo_model.pictures import photographs, scenes
from jobs.benchmarks.demo_model.pictures.photographs import PHOTOGRAPHS, load_photograph
from jobs.benchmarks.demo_model.pictures.scenes import (
    CAMERA,
    PARTS,
    PATHS,
    WORDS,
    render_scenes,
    scene_caption,
    scene_words,
)
from jobs.benchmarks.demo_model.train.__main__ import main
from jobs.benchmarks.demo_model.train.config import pictures_config, shortened
from jobs.benchmarks.demo_model.train.vae import train_vae
from jobs.benchmarks.demo_model.worlds import PictureWorld
from jobs.benchmarks.profiles.bench import load_bench
from jobs.benchmarks.quality.accuracy import judge_clips
from pipeline.errors import UserError
from pipeline.models.demo import DEFAULTS, WEIGHTS_DIR

SIZE, FRAMES = 48, 5


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs behind are ramps, red across and green down; that in front is blue."""
    ramp = torch.linspace(-1, 1, 320)
    behind = torch.stack(
        [ramp.expand(320, -1), ramp[:, None].expand(-1, 320), -torch.ones(320, 320)]
    )
    front = torch.tensor([-1.0, -1.0, 1.0])[:, None, None].expand(-1, 320, 320)
    monkeypatch.setattr(
        scenes, "load_photograph", lambda which: front if which == PHOTOGRAPHS[1] else behind
    )


def rendered(camera: str, path: str = "left", speed: int = 1) -> Tensor:
    scene = torch.tensor([[0, list(CAMERA).index(camera), speed, 1, list(PATHS).index(path)]])
    return render_scenes(scene, torch.Generator().manual_seed(0), FRAMES, SIZE)[0]


def ramps(clip: Tensor) -> tuple[Tensor, Tensor]:
    """Per frame the mean red and green of what is not the disc."""
    seen = clip[2] < -0.99
    return tuple(  # type: ignore[return-value]
        torch.stack([clip[c, t][seen[t]].mean() for t in range(clip.shape[1])]) for c in (0, 1)
    )


def test_the_split_keeps_words_and_shares_no_scene() -> None:
    trained, held_out = scenes.scenes(held_out=False), scenes.scenes(held_out=True)
    assert not set(trained) & set(held_out)
    assert 0.1 < len(held_out) / len(trained + held_out) < 0.2
    for part, words in enumerate(PARTS):
        assert set(Counter(scene[part] for scene in held_out)) == set(range(len(words)))
    assert all(scene[0] != scene[3] for scene in trained + held_out)


def test_every_caption_is_made_of_the_tokenizer_s_words_and_fits() -> None:
    tokenizer = make_tokenizer(scene_words())
    captions = {scene_caption(scene) for scene in scenes.scenes(held_out=True)}
    assert len(captions) == len(scenes.scenes(held_out=True))
    for caption in captions:
        tokens = tokenizer(caption).input_ids
        assert tokenizer.unk_token_id not in tokens
        assert len(tokens) <= DEFAULTS.max_sequence_length


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("camera", "red", "green"),
    [("panning right", 1, 0), ("panning left", -1, 0), ("panning down", 0, 1)],
)
def test_the_camera_pans_as_the_caption_says(camera: str, red: int, green: int) -> None:
    for seen, sign in zip(ramps(rendered(camera)), (red, green), strict=True):
        moved = float(seen[-1] - seen[0])
        assert abs(moved) < 0.1 if sign == 0 else sign * moved > 0.15
    slow = ramps(rendered("panning right", speed=0))[0]
    assert float(slow[-1] - slow[0]) < float(
        (found := ramps(rendered("panning right"))[0])[-1] - found[0]
    )


@pytest.mark.usefixtures("plain")
def test_zooming_narrows_and_turning_tilts_the_view() -> None:
    wide = rendered("zooming in")
    spread = [float(wide[0, t].max() - wide[0, t][wide[2, t] < -0.99].min()) for t in (0, -1)]
    assert spread[1] < 0.8 * spread[0]
    turned = rendered("turning right")
    corner = turned[1, :, 0, -1] - turned[1, :, 0, 0]  # how green grows along the upper edge
    assert float(corner[-1]) > float(corner[0]) + 0.05


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("path", "axis", "sign"), [("left", 1, -1), ("down", 0, 1)])
def test_the_disc_moves_as_the_caption_says(path: str, axis: int, sign: int) -> None:
    clip = rendered("panning left", path)
    places = torch.stack([(frame > 0).nonzero().double().mean(0) for frame in clip[2]])
    moved = places[-1] - places[0]
    assert sign * float(moved[axis]) > 0.25 * SIZE
    assert abs(float(moved[1 - axis])) < 1
    areas = (clip[2] > 0).sum((1, 2)).double()
    assert float(areas.min()) > 0.9 * float(areas.max())  # it never leaves the frame


def test_a_photograph_whose_package_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    load_photograph.cache_clear()
    with pytest.raises(
        UserError, match="the photograph palace comes with the package scikit-learn"
    ):
        load_photograph(PHOTOGRAPHS[WORDS.index("palace")])


def test_an_installed_photograph_is_loaded_and_large_enough() -> None:
    load_photograph.cache_clear()
    officer = load_photograph(PHOTOGRAPHS[WORDS.index("officer")])
    assert officer.shape[0] == 3
    assert min(officer.shape[1:]) == photographs.SHORT_SIDE
    assert -1 <= float(officer.min()) < float(officer.max()) <= 1
    assert all(photograph.licence for photograph in PHOTOGRAPHS)


@pytest.mark.variant
@pytest.mark.usefixtures("plain")
def test_the_command_trains_on_scenes_and_lists_held_out_captions(tmp_path: Path) -> None:
    own = pictures_config()
    micro = replace(
        own,
        vae=replace(own.vae, steps=2, batch=1, warmup=1),
        dit=replace(own.dit, steps=2, batch=2, warmup=1),
        crop_steps=1,
        crop_batch=1,
        crop_size=16,
        pool_clips=2,
        latent_clips=2,
        vae_start=None,
        world=PictureWorld(size=32),
        vae_changes={"base_dim": 4, "decoder_base_dim": 4},
        transformer_changes={"num_layers": 1, "ffn_dim": 32},
    )
    assert main(["--pictures", "--out", str(tmp_path)], micro) == 0
    folder = tmp_path / "pipeline"
    captions = (folder / "captions.txt").read_text().splitlines()
    assert captions == [scene_caption(scene) for scene in scenes.scenes(held_out=True)]
    bench = load_bench("demo", str(folder), "cpu")
    assert (bench.model.spec.name, bench.template.width) == ("pictures", 96)
    request = replace(
        bench.template, prompt=captions[0], width=32, height=32, num_inference_steps=2
    )
    frames = bench.run([request], "pt")
    assert frames.shape == (1, DEFAULTS.num_frames, 3, 32, 32)
    assert judge_clips(bench.model, captions[:1], [frames[0]]) is None


def test_the_autoencoder_begins_as_the_shipped_one(tmp_path: Path) -> None:
    config = pictures_config()
    untrained = replace(config, vae=replace(config.vae, steps=0))
    begun = train_vae(untrained, tmp_path / "vae.pt", Console(quiet=True))
    shipped = AutoencoderKLWan.from_pretrained(
        WEIGHTS_DIR, subfolder="vae", torch_dtype=torch.float32
    )
    for mine, theirs in zip(begun.parameters(), shipped.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_shorter_training_divides_its_steps_and_clips(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = pictures_config()
    half = shortened(whole, 2)
    assert (half.vae.steps, half.crop_steps) == (whole.vae.steps // 2, whole.crop_steps // 2)
    assert (half.dit.steps, half.dit.warmup) == (whole.dit.steps // 2, whole.dit.warmup // 2)
    assert half.latent_clips == whole.latent_clips // 2
    assert shortened(whole, 1) == whole
    with pytest.raises(SystemExit):
        main(["--second", "--shorter", "2", "--out", str(tmp_path)])
    assert "--shorter needs --pictures" in capsys.readouterr().err
