"""From the embedded model to exported latents and back: the decoder makes the same frames again."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from jobs.export import main
from pipeline.attempts.batch_runner import BatchRunner
from pipeline.attempts.ledger import Ledger
from pipeline.config.run_config import RunConfig
from pipeline.dataset.parts import PartWriter
from pipeline.dataset.schema import to_table
from pipeline.engine.factory import engine_factory
from pipeline.engine.outputs import to_uint8
from pipeline.engine.protocol import Clip, Engine
from pipeline.models.resolve import resolve_model
from pipeline.requests.defaults import request_defaults
from pipeline.requests.from_row import build_request
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from pipeline.tensors.latent_scale import LatentScale

PROMPTS = ("a red circle moving right slowly on a black background", "The Eiffel tower")


class WatchedFrames:
    """An engine whose frames are kept as they are before they become an mp4."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.device_name, self.group_size = engine.device_name, engine.group_size
        self.frames: dict[str, np.ndarray[Any, Any]] = {}
        self.requests: dict[str, SampleRequest] = {}

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        clips = self._engine.generate(requests)
        self.frames |= {r.sample_id: c.frames for r, c in zip(requests, clips, strict=True)}
        self.requests |= {request.sample_id: request for request in requests}
        return clips

    def close(self) -> None:
        self._engine.close()


def made(folder: Path, policy: str) -> tuple[WatchedFrames, list[dict[str, Any]]]:
    """Make two clips in one call, and store them with their tensors."""
    config = RunConfig.model_validate(
        {
            "prompts": "p.txt",
            "output": str(folder),
            "save": ["trajectory", "text_embeds", "latents"],
            "cache": {"policy": policy},
            "sampling": {"num_inference_steps": 8},
        }
    )
    model = resolve_model("demo")
    defaults = request_defaults(config, model)
    requests = [build_request({"prompt": text}, defaults, "p.txt:0") for text in PROMPTS]
    engine = WatchedFrames(engine_factory(config, model, threads=1)())
    storage = Storage(str(folder))
    ledger = Ledger(storage, policy, max_attempts=1)
    runner = BatchRunner(engine, storage, ledger, policy, batch_rows=2)
    rows = runner.process(requests)
    runner.close()
    parts = PartWriter(storage, policy, part_rows=9, part_seconds=9)
    parts.add(to_table(rows))
    parts.flush()
    return engine, rows


def trajectories(output: Path, to: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Export trajectories, and read states and times of each clip as FastVideo does."""
    form = ["--format", "fastvideo-trajectories", "--shard-rows", "4"]
    assert main(["--output", str(output), "--to", str(to), *form]) == 0
    (shard,) = to.rglob("*.parquet")
    table = pq.read_table(shard)
    (said,) = json.loads(table.schema.metadata[b"trajectories"])
    assert (said["normalised"], len(said["sigmas"])) == (True, 9)

    def tensor(row: dict[str, Any], name: str) -> torch.Tensor:
        values = np.frombuffer(row[f"{name}_bytes"], np.float32)
        return torch.from_numpy(values.reshape(row[f"{name}_shape"]).copy())

    return {
        row["id"]: (tensor(row, "trajectory_latents"), tensor(row, "trajectory_timesteps"))
        for row in table.to_pylist()
    }


@pytest.mark.slow
def test_exported_latents_are_the_frames_before_they_became_an_mp4(tmp_path: Path) -> None:
    from diffusers import AutoencoderKLWan
    from diffusers.video_processor import VideoProcessor

    frames: dict[str, np.ndarray[Any, Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    requests: dict[str, SampleRequest] = {}
    for policy in ("none", "planned"):
        engine, some = made(tmp_path / "out", policy)
        frames |= engine.frames
        requests |= engine.requests
        rows |= {row["sample_id"]: row for row in some}
    assert [row["cache"]["policy"] for row in rows.values()] == ["none"] * 2 + ["planned"] * 2
    assert {row["batch_rows"] for row in rows.values()} == {2}
    flags = ["--output", str(tmp_path / "out"), "--bucket-by", "resolution,aspect,length"]
    assert main([*flags, "--to", str(tmp_path / "wds")]) == 0
    assert main([*flags, "--to", str(tmp_path / "fast"), "--format", "fastvideo-latents"]) == 0

    files: dict[str, bytes] = {}
    with tarfile.open(tmp_path / "wds/train-64x64_1-1_17f-00000.tar") as tar:
        for name in tar.getnames():
            if name.endswith(".safetensors"):
                files[name.removesuffix(".safetensors")] = tar.extractfile(name).read()  # type: ignore[union-attr]
    assert files.keys() == frames.keys()
    table = pq.read_table(tmp_path / "fast/train/64x64_1-1_17f/00000-of-00001.parquet")
    samples = {row["id"]: row for row in table.to_pylist()}
    assert samples.keys() == frames.keys()
    ways = trajectories(tmp_path / "out", tmp_path / "distil")
    assert ways.keys() == frames.keys()

    vae = AutoencoderKLWan.from_pretrained(Path(resolve_model("demo").location) / "vae")
    scale = LatentScale.of(vae)
    (said,) = json.loads(table.schema.metadata[b"latents_of_models"]).values()
    assert (said["normalised"], said["scaling_factor"]) == (False, scale.scaling_factor)
    assert (tuple(said["mean"]), tuple(said["std"])) == (scale.mean, scale.std)
    for sample_id, wanted in frames.items():
        tensors, sample = load(files[sample_id]), samples[sample_id]
        latents = np.frombuffer(sample["vae_latent_bytes"], np.float32)
        latents = torch.from_numpy(latents.reshape(sample["vae_latent_shape"]).copy())
        assert torch.equal(latents, tensors["latents"])
        with torch.no_grad():
            decoded = vae.decode(latents[None]).sample
        video = VideoProcessor().postprocess_video(decoded, "pt")
        assert np.array_equal(to_uint8(video, requests[sample_id])[0], wanted)
        text = np.frombuffer(sample["text_embedding_bytes"], np.float32)
        text = text.reshape(sample["text_embedding_shape"])
        assert np.array_equal(text, tensors["prompt_embeds"].numpy())
        assert 0 < len(text) == rows[sample_id]["prompt_tokens"]
        states, times = ways[sample_id]
        assert torch.equal(states, tensors["trajectory"])
        assert torch.equal(times, tensors["trajectory_timesteps"])
        assert states.shape == (8 + 1, *latents.shape)
        assert (float(times[0]), float(times[-1]), len(times)) == (1000.0, 0.0, 9)
        assert abs(float(states[0].std()) - 1) < 0.1  # it begins with the noise
        torch.testing.assert_close(states[-1], scale.normalise(latents))
        row = rows[sample_id]["tensors"]
        assert row["bytes"] == len(files[sample_id])
        assert row["latents_shape"] == list(latents.shape)
