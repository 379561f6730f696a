"""Models of other shapes: a few training steps, a saved folder, and the harness on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from jobs.benchmark import main as benchmark
from jobs.benchmarks.demo_model.architecture import make_vae
from jobs.benchmarks.demo_model.evaluate import generate
from jobs.benchmarks.demo_model.palette import palette_of
from jobs.benchmarks.demo_model.shapes.autoencoder import SpriteAutoencoder, pack, unpack
from jobs.benchmarks.demo_model.shapes.base import EncodedText
from jobs.benchmarks.demo_model.shapes.catalogue import SHAPES, SPRITE_MODELS, description_of
from jobs.benchmarks.demo_model.shapes.ltx import TOKENS, shift_of
from jobs.benchmarks.demo_model.train.__main__ import main
from jobs.benchmarks.demo_model.train.config import TrainConfig, shape_config
from jobs.benchmarks.demo_model.train.shaped import CHECKPOINT, train_shape
from jobs.benchmarks.profiles.bench import load_bench
from pipeline.models.demo import WEIGHTS_DIR
from pipeline.models.samplers import EULER, UNIPC

CAPTION = "a red circle moving left slowly on a black background"
SMALL: dict[str, dict[str, Any]] = {
    "cogvideox": {"num_layers": 1, "num_attention_heads": 2, "time_embed_dim": 32},
    "ltx": {"num_layers": 1, "num_attention_heads": 2, "cross_attention_dim": 64},
}


def micro(name: str) -> TrainConfig:
    own = shape_config()
    loop = replace(own.dit, steps=6, batch=2, warmup=2, save_every=2)
    return replace(own, dit=loop, latent_clips=4, transformer_changes=SMALL[name])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a shape's name to the folder of a run of a few steps."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            arguments = ["--shape", name, "--out", str(made[name])]
            assert main(arguments, micro(name)) == 0
        return made[name]

    return folder


def test_the_names_of_the_shapes_are_those_of_their_specs() -> None:
    assert {f"sprites-{name}" for name in SHAPES} | {"demo"} == set(SPRITE_MODELS)
    assert len(SPRITE_MODELS) == 1 + len(SHAPES)


def test_packing_is_undone_and_keeps_squares_together() -> None:
    latents = torch.arange(2 * 3 * 5 * 4 * 4.0).view(2, 3, 5, 4, 4)
    packed = pack(latents, 2)
    assert packed.shape == (2, 12, 5, 2, 2)
    assert torch.equal(unpack(packed, 2), latents)
    square = latents[0, 0, 1, 2:, :2]
    assert torch.equal(packed[0, :4, 1, 1, 0], square.flatten())


@pytest.mark.parametrize("patch", [1, 2])
def test_normalised_packed_latents_are_decoded_as_the_own_ones(patch: int) -> None:
    torch.manual_seed(0)
    vae = make_vae(base_dim=4, decoder_base_dim=4)
    mean, std = torch.randn(16), torch.rand(16) + 0.5
    shape = (1, -1, 1, 1, 1)
    own = torch.randn(1, 16, 2, 4, 4)
    wrapped = SpriteAutoencoder.around(vae, mean, std, patch)
    given = pack((own - mean.view(shape)) / std.view(shape), patch)
    with torch.no_grad():
        torch.testing.assert_close(
            wrapped.decode(given, None, return_dict=False)[0], vae.decode(own).sample
        )
    assert 2 ** (len(wrapped.config.block_out_channels) - 1) == 8 * patch
    assert wrapped.spatial_compression_ratio == 8 * patch


def test_a_longer_clip_has_a_larger_shift() -> None:
    assert 2 < shift_of(TOKENS) < shift_of(2 * TOKENS)


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_loss_of_a_perfect_network_is_that_of_its_last_rounding(name: str) -> None:
    """The target, by what the scheduler of sampling makes of it: one step to the clean latents."""
    shape = SHAPES[name]()
    seen: dict[str, Any] = {}

    class Recorder(torch.nn.Module):
        config = shape.make_network(**SMALL[name]).config

        def forward(self, **given: Any) -> tuple[torch.Tensor]:
            seen.update(given)
            return (torch.zeros_like(given["hidden_states"]),)

    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(6, 16, 5, 8, 8, generator=generator)
    text = EncodedText(torch.zeros(6, 16, 128), torch.ones(6, 16, dtype=torch.bool))
    at = generator.get_state()
    zero = shape.loss(Recorder(), clean, text, generator)  # the mean square of the target itself
    noisy, times = seen["hidden_states"], seen["timestep"]
    assert zero.item() == pytest.approx(1 if name == "cogvideox" else 2, rel=0.1)
    generator.set_state(at)

    class Perfect(Recorder):
        def forward(self, **given: Any) -> tuple[torch.Tensor]:
            if name == "ltx":
                level = given["timestep"][:, None, None] / 1000
                tokens = pack(clean, 2).flatten(2).transpose(1, 2)
                return ((given["hidden_states"] - tokens) / level,)
            alpha = shape.scheduler.alphas_cumprod[given["timestep"]].float()  # type: ignore[attr-defined]
            alpha = alpha.view(-1, 1, 1, 1, 1)
            frames = clean.transpose(1, 2)
            return ((alpha.sqrt() * noisy - frames) / (1 - alpha).sqrt(),)

    assert shape.loss(Perfect(), clean, text, generator).item() < 1e-4
    assert times.min() >= 0
    assert times.max() <= 1000


@pytest.mark.parametrize("name", list(SHAPES))
def test_training_calls_the_network_as_sampling_does(
    trained: Callable[[str], Path], name: str
) -> None:
    bench = load_bench("demo", str(trained(name) / "pipeline"), "cpu")
    network = bench.pipe.transformer
    calls: list[dict[str, Any]] = []
    network.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(dict(kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        generate(bench, [CAPTION], [1], num_inference_steps=2)
        shape = SHAPES[name]()
        mask = calls[0].get("encoder_attention_mask", torch.ones(2, 16))
        text = EncodedText(calls[0]["encoder_hidden_states"], mask)
        clean = torch.randn(2, 16, 5, 8, 8)
        shape.loss(network, clean, text, torch.Generator().manual_seed(0))
    sampled, own = calls[0], calls[-1]
    assert len(calls) == 3  # both guidance branches are rows of one call
    assert own["hidden_states"].shape == sampled["hidden_states"].shape
    for key, value in own.items():
        if key == "image_rotary_emb":
            for mine, theirs in zip(value, sampled[key], strict=True):
                torch.testing.assert_close(mine, theirs)
        elif not isinstance(value, torch.Tensor):
            assert sampled[key] == value, key
    assert float(sampled["timestep"][0]) == pytest.approx(1000 if name == "ltx" else 999)


def test_a_stopped_run_goes_on_to_the_same_weights(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    name, config = "ltx", micro("ltx")
    whole = trained(name)
    (tmp_path / "latents").symlink_to(whole / "latents")
    console = Console(file=(tmp_path / "log.txt").open("w", encoding="utf-8"))
    from jobs.benchmarks.demo_model.train.loop import StoppedEarlyError

    with pytest.raises(StoppedEarlyError):
        train_shape(SHAPES[name](), config, tmp_path, console, stop_at=4)
    arguments = ["--shape", name, "--out", str(tmp_path)]
    assert main([*arguments, "--preview"], config) == 0
    index = tmp_path / "preview" / "model_index.json"
    assert json.loads(index.read_text())["_class_name"] == "LTXPipeline"
    assert main(arguments, config) == 0
    one, other = (torch.load(each / CHECKPOINT) for each in (whole, tmp_path))
    assert one["step"] == other["step"] == 6
    for mine, theirs in zip(one["average"], other["average"], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("name", "sampler", "shown"),
    [
        ("cogvideox", "both", ["CogVideoXDDIMScheduler", UNIPC]),
        pytest.param("cogvideox", "dpm", ["CogVideoXDPMScheduler"], marks=pytest.mark.variant),
        ("ltx", "both", [EULER, UNIPC]),
        pytest.param("ltx", "lcm", ["FlowMatchLCMScheduler"], marks=pytest.mark.variant),
    ],
)
def test_the_harness_runs_on_a_saved_folder(
    trained: Callable[[str], Path], tmp_path: Path, name: str, sampler: str, shown: list[str]
) -> None:
    saved, out = trained(name) / "pipeline", tmp_path / "out.json"
    assert palette_of(saved).name == "muted"
    tiny = "rivals --device cpu --clips 1 --batch-rows 1 --calibration-clips 1 --steps 6 --nfe 4"
    places = ["--partial", str(tmp_path / "kept.jsonl"), "--cache-dir", str(tmp_path)]
    given = ["--model-path", str(saved), "--sampler", sampler, "--arms", "planned-own", "planned"]
    assert benchmark([*tiny.split(), *given, "sencache-paper", *places, "--json", str(out)]) == 0
    result = json.loads(out.read_text())["result"]
    assert result["model"] == f"sprites-{name}"
    assert result["request"]["num_frames"] == 17
    assert list(result["samplers"]) == shown
    for *plans, paper in result["samplers"].values():
        assert 3 <= paper["nfe"][0] <= 6
        assert [plan["arm"] for plan in plans] == ["planned-own", "planned"]
        for planned in plans:
            if sampler in ("dpm", "lcm"):
                assert "is random" in planned["problem"]
            else:
                assert planned["nfe"] == [4.0]
                assert 5 < planned["psnr"][0] <= 100


@pytest.mark.variant
def test_the_long_benchmark_judges_clips_by_their_captions(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    saved, out = trained("cogvideox") / "pipeline", tmp_path / "out.json"
    tiny = "quality --device cpu --clips 1 --calibration-clips 1 --steps 6 --nfe 4"
    given = ["--model-path", str(saved), "--reference-steps", "8", "--arms", "fewer-steps"]
    places = ["--cache-dir", str(tmp_path), "--json", str(out)]
    assert benchmark([*tiny.split(), *given, *places]) == 0
    result = json.loads(out.read_text())["result"]
    (arm,) = result["samplers"]["CogVideoXDDIMScheduler"]["arms"]
    assert arm["right"] in (0.0, 1.0)


def test_only_folders_of_the_shapes_are_described(tmp_path: Path) -> None:
    assert description_of(str(WEIGHTS_DIR)) == ""
    assert description_of("") == ""
    assert description_of("s3://bucket/model") == ""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "LTXPipeline"}))
    assert description_of(str(tmp_path)) == ""


def test_a_sampler_that_the_family_lacks_is_one_line(
    trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model-path", str(trained("ltx") / "pipeline"), "--sampler", "ddim"]
    assert benchmark(["quality", "--device", "cpu", *given]) == 2
    assert "the ltx family has euler, lcm, unipc" in capsys.readouterr().err
