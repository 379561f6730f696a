"""Every video class of diffusers that the cache knows, by its folder alone, through the job."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import yaml

from jobs.generate import main
from tests.e2e.outputs import rows_of
from tests.folder_clips import NO_CLIPS, STEPS, FolderRun
from tests.sencache.support.video.table import SUPPORTED, class_of

# `tests/pipeline/engine/test_folders.py` makes clips of a class of each kind without a cluster.
pytestmark = [pytest.mark.slow, pytest.mark.variant]

WITH_SOUND = ("LTX2", "Kandinsky6")
"""Begins the names of classes whose clips have sound."""


@pytest.mark.parametrize(
    "name",
    [name for name in sorted(SUPPORTED) if class_of(name) not in NO_CLIPS],
)
def test_a_folder_alone_makes_a_dataset_and_the_same_command_goes_on(
    local_ray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    from tests.whole_pipelines import whole

    whole(name).save_pretrained(tmp_path / "model", safe_serialization=True)
    folder = FolderRun(name, tmp_path / "model", tmp_path)
    prompts, config = tmp_path / "p.jsonl", tmp_path / "run.yaml"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in folder.prompts()))
    settings = folder.settings("planned") | {"prompts": str(prompts), "report": False}
    config.write_text(yaml.safe_dump(settings | {"replicas": 1, "scorers": ["none"]}))
    assert main(["--config", str(config), "--limit", "1"]) == 0
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config)]) == 0
    assert "Everything is done already" in capsys.readouterr().out
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok"] * 2
    assert len({row["sample_id"] for row in rows}) == 2
    for row in rows:
        cache = row["cache"]
        assert 0 < cache["nfe"] < cache["nfe"] + cache["reused"] == len(cache["decisions"])
        if not folder.model.spec.pipeline.own_steps:  # as where a clip begins with a video
            assert cache["nfe"] + cache["reused"] >= STEPS
        with av.open(str(tmp_path / "out" / row["video"]["path"])) as clip:
            assert bool(clip.streams.audio) == (
                name.startswith(WITH_SOUND) and "silent" not in name
            )
            if clip.streams.audio:
                assert sum(frame.samples for frame in clip.decode(audio=0)) > 0
