"""Every `--engine.*` and `--stages.*` flag changes what a run hands to its actors.

What an actor then does with it is tested where it does it: `tests/pipeline/models` for the engine's
settings, `tests/pipeline/engine/test_decode_turns.py` and `test_text_stage.py` for the stages.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.cluster.capacity import Groups
from pipeline.config.sections import EngineConfig, StagesConfig
from tests.pipeline.cluster.test_ray_data_plan import planned

FLAGS: dict[str, dict[str, Any]] = {
    "engine": {
        "attention": "flash",
        "compile": True,
        "vae_tiling": True,
        "vae_slicing": False,
        "offload": "model",
        "quantize": "nf4",
        "safety_checker": "off",
        "adapters": ["style.safetensors"],
    },
    "stages": {
        "text": "separate",
        "text_replicas": 3,
        "text_cpus": 2,
        "text_gpus": 0.5,
        "text_wait_s": 7.0,
        "decode": "beside",
    },
}
"""A value of each flag that is not its default."""


def plan(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    """All that a run on GPUs hands to Ray Data, as text."""
    made = planned(monkeypatch, Groups("cuda", 1, 1, 1, 0), **settings)
    watches = getattr(made.context, "custom_execution_callback_classes", [])
    stages = [
        {**settings, "compute": vars(settings["compute"])} | {"stage": stage.__name__}
        for stage, settings in made.stages
    ]
    return f"{stages} {[watch.args for watch in watches]}"


def test_every_flag_is_listed() -> None:
    assert {name: set(values) for name, values in FLAGS.items()} == {
        "engine": set(EngineConfig.model_fields),
        "stages": set(StagesConfig.model_fields),
    }


@pytest.mark.parametrize(
    ("section", "flag"), [(section, flag) for section in FLAGS for flag in FLAGS[section]]
)
def test_a_flag_reaches_the_actors(
    section: str, flag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # torchao is there
    monkeypatch.setattr(
        "pipeline.models.engine_options.check_safety_checker", lambda *a, **k: None
    )  # the embedded model has none
    monkeypatch.chdir(tmp_path)
    save_file({"layer.lora_A.weight": torch.ones(1, 1)}, "style.safetensors")
    apart = {"text": "separate"} if flag.startswith("text_") else {}
    before = {"stages": apart}
    value = FLAGS[section][flag]
    after = {**before, section: {**before.get(section, {}), flag: value}}
    assert plan(monkeypatch, **before) == plan(monkeypatch, **before)
    assert plan(monkeypatch, **before) != plan(monkeypatch, **after)
