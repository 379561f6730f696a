"""Clips of tiny saved pipelines, by `--model-path` alone: settings, intake, engine, and resuming.

A check that tests and `docs/models_table.md` share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config.run_config import RunConfig
from pipeline.dataset import mp4
from pipeline.dataset.committed import Committed, Ids
from pipeline.engine.factory import engine_factory
from pipeline.engine.protocol import Clip, Engine
from pipeline.models.resolve import model_of
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.condition_columns import MediaCondition
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.prompt_file import SourceRow
from pipeline.requests.defaults import request_defaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage
from tests.sencache.support.video.table import class_of

STEPS = 4
FRAMES = {
    "AllegroPipeline": 8,
    "HeliosPipeline": 33,
    "HunyuanVideoFramepackPipeline": 37,
    "Kandinsky5I2VPipeline": 17,
    "LattePipeline": 2,
    "MochiPipeline": 7,
}
"""Frames of classes that cannot make nine."""

SMALL = ("CogVideoXImageToVideoPipeline", "CogVideoXPipeline (1.5)", "LTX2")
"""Begins the names of variants whose tiny networks have a small position table, or many tokens."""

NO_CLIPS = ("ChronoEditPipeline", "ConsisIDPipeline", "LTX2HDRPipeline")
"""Classes that the catalogue refuses, each with its reason."""


class FolderRun:
    """A run of one folder, step by step as `jobs/generate.py` takes them, without a cluster."""

    def __init__(self, name: str, folder: Path, place: Path) -> None:
        """Read the settings.

        Args:
            name: A variant of `SUPPORTED`.
            folder: Its saved tiny pipeline.
            place: A folder for the files that rows name.
        """
        self.name, self.folder, self.place = name, folder, place
        self._text_length: int | None = 0  # not known yet
        self.model: ResolvedModel = model_of(self._config())
        self._text_length = self.model.spec.text_length

    def requests(
        self, committed: Sequence[str] = (), *, cache: str = "none", **changes: Any
    ) -> list[SampleRequest]:
        """What is left to make of two rows.

        Args:
            committed: Ids of finished samples.
            cache: `none`, `exact` (epsilon 0) or `planned` (half of the steps).
            changes: Of the sampling; `files=False` leaves out the files that a class can do
                without.
        """
        optional = changes.pop("files", True)
        config = self._config(cache, **changes)
        defaults = request_defaults(config, self.model, Storage(str(self.place / "out")))
        taken = [each for each in defaults.conditions if optional or each.required]
        files = {each.column: str(self._file(each)) for each in taken}
        rows = [
            SourceRow(f"p:{seed}", {"prompt": "a red circle", "seed": seed, **files})
            for seed in (1, 2)
        ]
        done = Committed(Ids.from_bytes(b"".join(map(bytes.fromhex, sorted(committed)))))
        reader = ConditionReader(Storage(str(self.place / "out")), store=False)
        intake = Intake(rows, defaults, done, files=reader)
        found = list(intake)
        if intake.rejected:
            raise AssertionError(f"{self.name}: {intake.rejected[0].message}")
        return found

    def engine(self) -> Engine:
        """The engine, freshly loaded from the folder."""
        return engine_factory(self._config("planned"), self.model)()

    def prompts(self) -> list[dict[str, Any]]:
        """Two input rows, with a file for each condition of the class."""
        conditions = self.model.spec.conditions
        files = {each.column: str(self._file(each)) for each in conditions}
        return [{"prompt": "a red circle", "seed": seed, **files} for seed in (1, 2)]

    def settings(self, cache: str = "none", **sampling: Any) -> dict[str, Any]:
        """The settings of a run, as in a YAML file."""
        class_name = class_of(self.name)
        settings: dict[str, Any] = {
            "prompts": "p",
            "output": str(self.place / "out"),
            "model": "",
            "model_path": str(self.folder),
            "device": "cpu",
            "cache": {
                "none": {"policy": "none"},
                "exact": {"policy": "paper", "epsilon": 0.0, "profile": "prior"},
                "planned": {"policy": "planned", "budget": 0.5, "profile": "prior"},
            }[cache],
        }
        if class_name.startswith("Cosmos"):
            settings["engine"] = {"safety_checker": "off"}
        side = 32 if self.name.startswith(SMALL) else 64
        size = {"width": side, "height": side}
        if class_name == "HunyuanVideo15ImageToVideoPipeline":
            size = {"width": 16, "height": 16}  # the one size of the tiny network
        settings["sampling"] = {
            **size,
            "num_frames": FRAMES.get(class_name, 9),
            "num_inference_steps": STEPS,
            "guidance_scale": 3.0,
            "fps": 8,
            **sampling,
        }
        if self._text_length is None:
            settings["sampling"]["max_sequence_length"] = 24
        return settings

    def _config(self, cache: str = "none", **sampling: Any) -> RunConfig:
        return RunConfig.model_validate(self.settings(cache, **sampling))

    def _file(self, condition: MediaCondition) -> Path:
        """A file of noise of a condition's kind."""
        random = np.random.default_rng(list(condition.column.encode()))
        if condition.kind in ("image", "images"):
            path = self.place / f"{condition.column}.png"
            Image.fromarray(random.integers(0, 255, (96, 96, 3), np.uint8)).save(path)
            return path
        path = self.place / f"{condition.column}.mp4"
        blocks = random.integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
        mp4.write(blocks.repeat(8, 1).repeat(8, 2), 8, {}, path)
        return path


def check_that_a_folder_makes_clips(run: FolderRun) -> None:
    """A folder alone makes clips; nothing changes without reuse, a plan is kept, and a run resumes.

    Resuming rests on two things: the ids of the same rows are the same again, and a fresh engine
    makes the clip that the first one would have made.
    """
    engine = run.engine()
    first, second = run.requests()
    plain = clip_of(engine, second)
    assert plain.frames.shape == (first.num_frames, first.height, first.width, 3)
    steps = len(plain.cache["decisions"])
    assert plain.cache["decisions"] == "C" * steps
    (_, planned) = run.requests(cache="planned")
    assert 0 < clip_of(engine, planned).cache["nfe"] < steps
    (_, unguided) = run.requests(guidance_scale=1.0)
    assert not np.array_equal(shown(plain), shown(clip_of(engine, unguided)))
    if any(not each.required for each in run.model.spec.conditions):
        (_, bare) = run.requests(files=False)
        assert not np.array_equal(shown(plain), shown(clip_of(engine, bare)))
    engine.close()
    (left,) = run.requests([first.sample_id])
    assert left == second
    fresh = run.engine()
    (_, exact) = run.requests(cache="exact")
    again = clip_of(fresh, exact)
    assert np.array_equal(plain.frames, again.frames)
    if plain.sound is not None:
        assert again.sound is not None
        assert np.array_equal(plain.sound.samples, again.sound.samples)
    fresh.close()


def clip_of(engine: Engine, request: SampleRequest) -> Clip:
    """The clip of one request."""
    (clip,) = engine.generate([request])
    return clip


def shown(clip: Clip) -> Any:
    """What tells two clips apart: latents where they show, for a tiny decoder may give grey."""
    return clip.frames if clip.latents is None else clip.latents
