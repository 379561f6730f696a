"""Tensors of every model: the decoder makes the same frames of them, a trajectory leads there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load

from pipeline.engine.diffusers_engine import DiffusersEngine
from pipeline.engine.outputs import to_uint8
from pipeline.engine.recording import LastLatents
from pipeline.errors import UserError
from pipeline.models.engine_options import EngineOptions
from pipeline.models.load import load_pipeline
from pipeline.models.registry import MODELS
from pipeline.models.spec import ResolvedModel
from pipeline.requests.sample_request import SampleRequest
from pipeline.tensors.call_tensors import TensorSaver, without_zero_rows
from pipeline.tensors.latent_scale import LatentScale
from pipeline.tensors.tensor_file import KINDS, LATENTS, TEXT_EMBEDS, about_tensors, tensors_struct

NAMES = [name for name, spec in MODELS.items() if spec.hub_id and not spec.conditions]

SHOWN = ("wan2.1-t2v-1.3b", "cogvideox-2b", "hunyuanvideo", "ltx-video")
"""One of each kind of latents; the others are variants."""

Resolve = Callable[[str], ResolvedModel]
MakeRequest = Callable[..., SampleRequest]


def as_networks_see(latents: torch.Tensor, last: np.ndarray[Any, Any]) -> torch.Tensor:
    """Latents of shape (channels, frames, height, width) in the order of a network's input."""
    if tuple(latents.shape) == last.shape:
        return latents
    if last.ndim == 4:  # CogVideoX: frames before channels
        return latents.permute(1, 0, 2, 3)
    return latents.permute(1, 2, 3, 0).reshape(last.shape)  # LTX: tokens of one point each


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SHOWN else pytest.mark.variant) for name in NAMES],
)
def test_the_decoder_makes_the_frames_of_saved_latents_again(
    name: str, tiny_resolved: Resolve, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_resolved(name)
    pipe = load_pipeline(model, "cpu")
    texts = ("a dog", "a big cat runs")
    batch = [request_for(model, text, seed) for seed, text in enumerate(texts)]
    draft = dataclasses.replace(batch[0], draft_of="x" * 20)
    plain = DiffusersEngine(model, pipe).generate(batch)
    kinds = (LATENTS, TEXT_EMBEDS) if name.startswith("ltx") else KINDS
    saving = DiffusersEngine(model, pipe, options=EngineOptions(save=kinds))
    monkeypatch.setattr("pipeline.engine.diffusers_engine.LastLatents", AllLatents)
    AllLatents.seen.clear()
    clips = saving.generate(batch)
    assert "decode" not in vars(pipe.vae)  # the pipeline is as it was
    assert [clip.tensors for clip in plain] == [None, None]
    seen = torch.stack(AllLatents.seen, dim=1)
    for place, (request, clip, unsaved) in enumerate(zip(batch, clips, plain, strict=True)):
        assert np.array_equal(clip.frames, unsaved.frames)  # saving changes no pixel
        assert clip.tensors is not None
        tensors, about = load(clip.tensors), about_tensors(clip.tensors)
        with torch.no_grad():
            decoded = pipe.vae.decode(tensors["latents"][None]).sample
        frames = to_uint8(pipe.video_processor.postprocess_video(decoded, "pt"), request)[0]
        assert np.array_equal(frames, clip.frames)
        scale = LatentScale.of(pipe.vae)
        assert about["latents"] == {"normalised": False, **scale.to_dict()} | {
            each: list(value) for each, value in scale.to_dict().items() if isinstance(value, tuple)
        }
        assert clip.latents is not None
        networks = as_networks_see(scale.normalise(tensors["latents"]), clip.latents)
        torch.testing.assert_close(networks, torch.from_numpy(clip.latents), atol=1e-4, rtol=1e-4)
        assert about["text_embeds"]["padded_length"] == request.max_sequence_length
        assert tensors["prompt_embeds"].shape[0] <= request.max_sequence_length
        assert not any(each.startswith("negative") for each in tensors)
        row = tensors_struct(request.sample_id, clip.tensors)
        assert row["saved"] == ",".join(kinds)
        if kinds == KINDS:
            states = tensors["trajectory"]
            torch.testing.assert_close(
                states[-1].float(), scale.normalise(tensors["latents"]), atol=1e-4, rtol=1e-4
            )
            after = torch.stack([as_networks_see(each, seen[place, 0].numpy()) for each in states])
            assert torch.equal(after[1:], seen[place])  # as diffusers itself tells after each step
            assert not torch.equal(after[0], after[1])
            times = tensors["trajectory_timesteps"]
            assert len(times) == len(states) == request.num_inference_steps + 1
            assert bool((times.diff() < 0).all())
        assert row["latents_shape"] == list(tensors["latents"].shape)
        assert (row["latents_dtype"], row["normalised"]) == ("F32", False)
    options = EngineOptions(save=kinds, decode_beside=True)
    beside = DiffusersEngine(model, pipe, options=options).generate(batch)
    assert [clip.tensors for clip in beside] == [clip.tensors for clip in clips]
    # Without the other row; and a draft is thrown away, so nothing of it is kept.
    (again,) = saving.generate(batch[:1])
    assert again.tensors is not None
    assert load(again.tensors).keys() == load(clips[0].tensors or b"").keys()
    (thrown,) = saving.generate([draft])
    assert thrown.tensors is None
    saving.close()


class AllLatents(LastLatents):
    """Keeps what diffusers tells its callback after each step, of all clips of a call."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __call__(self, pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> Any:
        self.seen.append(kwargs["latents"].clone())
        return super().__call__(pipe, step, timestep, kwargs)


@pytest.mark.slow
def test_a_sampler_of_tokens_has_no_trajectory(
    tiny_resolved: Resolve, request_for: MakeRequest
) -> None:
    model = tiny_resolved("ltx-video")
    pipe = load_pipeline(model, "cpu")
    engine = DiffusersEngine(model, pipe, options=EngineOptions(save=("trajectory",)))
    with pytest.raises(UserError, match=r"--save trajectory: the sampler of this pipeline"):
        engine.generate([request_for(model, "a dog", 0)])
    engine.close()


def test_a_pipeline_that_cannot_give_latents_is_refused() -> None:
    spec = next(iter(MODELS.values()))

    class Vae:
        config = dataclasses.make_dataclass("Config", [("timestep_conditioning", bool)])(True)

        def decode(self) -> None: ...

    class Pipe:
        vae: Any = None

    with pytest.raises(UserError, match=r"--save latents: .* has no VAE, and no latents"):
        TensorSaver.of(Pipe(), spec, ("latents",))
    Pipe.vae = Vae()
    with pytest.raises(UserError, match=r"takes latents with noise and a time"):
        TensorSaver.of(Pipe(), spec, ("latents",))
    assert TensorSaver.of(Pipe(), spec, ("text_embeds",)).embeds


def test_only_rows_of_zeros_at_the_end_are_left_out() -> None:
    embeds = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert without_zero_rows(embeds).tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert without_zero_rows(torch.zeros(3, 2)).shape == (1, 2)
