"""The overhead benchmark on CUDA, small."""

import json
from pathlib import Path

import pytest
import torch

from jobs.benchmark import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_random_weights_run_on_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = (
        "overhead --model wan2.1-t2v-1.3b --random-weights --device cuda --height 128 --width 128 "
        "--num-frames 17 --layers 2 --steps 10 --batch-rows 2 --repeats 2"
    )
    assert main([*arguments.split(), "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["conditions"]["gpu"]
    assert [arm["nfe_mean"] for arm in written["result"]] == [10, 10, 10, 10, 6, 4, 4]
