"""The loop without texts and decoding is the pipeline's own, for every family."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jobs.benchmarks.sampling.denoising_loop import Arm, make_loop
from pipeline.models.call import sampling_arguments, text_arguments
from pipeline.models.load import load_pipeline
from pipeline.models.spec import ResolvedModel
from sencache import SenCacheConfig


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "cogvideox-2b", "ltx-video", "hunyuanvideo"])
def test_encoded_texts_give_the_latents_of_the_pipelines_own_call(
    name: str, tiny_resolved: Callable[[str], ResolvedModel], request_for: Callable[..., Any]
) -> None:
    model = tiny_resolved(name)
    requests = [
        request_for(model, prompt, seed) for seed, prompt in enumerate(["a cat", "rain on a roof"])
    ]
    pipe = load_pipeline(model, "cpu")
    loop = make_loop(model.spec, pipe, requests)
    expected = pipe(
        **text_arguments(model.spec, requests),
        **sampling_arguments(model.spec, requests[0]),
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        output_type="latent",
    ).frames
    done = loop.run(Arm("no hook"))
    torch.testing.assert_close(done.latents, expected, rtol=0, atol=0)
    assert done.nfe == [5, 5]
    second = loop.take(1, 1).shorter(3).run(Arm("hook", SenCacheConfig(policy="none")))
    assert second.decisions == ["CCC"]
