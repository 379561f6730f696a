"""Clips that start from an image: from the `image` column of an input to the pixels."""

from __future__ import annotations

import dataclasses
import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.dataset import mp4
from pipeline.dataset.committed import Committed
from pipeline.engine.condition_inputs import condition_arguments
from pipeline.engine.diffusers_engine import load_engine
from pipeline.engine.protocol import batch_key
from pipeline.errors import RowRejectedError
from pipeline.models.registry import MODELS, PIPELINES
from pipeline.models.sizes import SizeRules
from pipeline.models.spec import ResolvedModel
from pipeline.prompts.condition_columns import FIRST_IMAGE, MediaCondition
from pipeline.prompts.condition_reader import ConditionReader
from pipeline.prompts.reader import read_source
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage

FROM_IMAGE = [name for name, spec in MODELS.items() if spec.conditions]
BASE = SampleRequest("p", "", "ltx-video-i2v", "rev", "S/3", 4, 4.0, 64, 64, 9, 8, 32, 0)
FROM_FIRST = PIPELINES["LTXImageToVideoPipeline"]
DEFAULTS = RequestDefaults(BASE, None, SizeRules(32, 8), conditions=(FIRST_IMAGE,))


def png(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images() -> ConditionReader:
    return ConditionReader(Storage(f"memory://images-{uuid.uuid4().hex}"))


def taken(path: Path, images: ConditionReader, defaults: RequestDefaults = DEFAULTS) -> Intake:
    rows = read_source(str(path), conditions=defaults.conditions)
    return Intake(rows, defaults, Committed(), files=images)


def frame_of(request: SampleRequest) -> Image.Image:
    """What the call gets of a request with a first image."""
    (arguments,) = condition_arguments(FROM_FIRST, request).values()
    frame: Image.Image = arguments
    return frame


def test_an_image_is_the_same_by_uri_and_by_bytes(tmp_path: Path, images: ConditionReader) -> None:
    file, data = tmp_path / "red.png", png()
    file.write_bytes(data)
    by_path, by_bytes = images.read("image", str(file)), images.read("image", data)
    assert by_path.sha256 == by_bytes.sha256
    assert images.read("image", {"bytes": data, "path": None}) == by_bytes
    assert images.read("image", {"bytes": None, "path": str(file)}) == by_path
    assert images.read("image", f"file://{file}").sha256 == by_path.sha256
    for ref in (by_path, by_bytes):
        request = dataclasses.replace(BASE, conditions=(ref,))
        assert frame_of(request).size == (64, 64)


def test_a_dry_run_stores_nothing(images: ConditionReader) -> None:
    dry = dataclasses.replace(images, store=False)
    assert dry.read("image", png()) == images.read("image", png())
    unseen = dry.read("image", png((1, 2, 3)))
    assert not images.storage.exists(f"images/{unseen.sha256[:2]}/{unseen.sha256}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "image is empty"),
        ("", "image is empty"),
        (b"not an image", "cannot be decoded"),
        (png()[:-40], "cannot be decoded"),
        (7, "is an int, not a URI or bytes"),
        ("/nowhere/a.png", "image /nowhere/a.png: not found"),
    ],
)
def test_a_bad_image_is_a_rejected_row(value: Any, message: str, images: ConditionReader) -> None:
    with pytest.raises(RowRejectedError, match=message):
        images.resolve({"image": value}, (FIRST_IMAGE,))


def test_rows_with_and_without_images(tmp_path: Path, images: ConditionReader) -> None:
    (tmp_path / "blue.png").write_bytes(png((0, 0, 200)))
    rows = [
        {"prompt": "a", "image": {"bytes": png(), "path": None}},
        {"prompt": "b", "image": {"bytes": None, "path": str(tmp_path / "blue.png")}},
        {"prompt": "c", "image": {"bytes": b"broken", "path": None}},
        {"prompt": "d", "image": None},
    ]
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    intake = taken(path, images)
    made = list(intake)
    assert [request.prompt for request in made] == ["a", "b"]
    assert len({request.conditions[0].sha256 for request in made}) == 2
    assert [row.caption for row in intake.rejected] == ["c", "d"]
    assert ["image" in row.message for row in intake.rejected] == [True, True]


def test_the_identity_holds_the_image_and_not_its_place(
    tmp_path: Path, images: ConditionReader
) -> None:
    for name, colour in (("one", (9, 9, 9)), ("same", (9, 9, 9)), ("other", (8, 8, 8))):
        (tmp_path / f"{name}.png").write_bytes(png(colour))
        (tmp_path / f"{name}.jsonl").write_text(
            f'{{"prompt": "a", "image": "{tmp_path / f"{name}.png"}"}}\n'
        )
    one, same, other = (
        next(iter(taken(tmp_path / f"{name}.jsonl", images))) for name in ("one", "same", "other")
    )
    assert one.conditions[0].at != same.conditions[0].at
    assert one.sample_id == same.sample_id
    assert one.sample_id != other.sample_id
    assert SampleRequest.from_json(one.to_json()) == one


def test_a_request_without_image_has_the_identity_that_it_always_had(
    tmp_path: Path, images: ConditionReader
) -> None:
    assert {"image", "conditions"}.isdisjoint(BASE.identity())
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "image": "ignored.png"}\n{"prompt": 3}\n')
    (tmp_path / "q.jsonl").write_text('{"prompt": "a"}\n{"prompt": 3}\n')
    plain = dataclasses.replace(DEFAULTS, conditions=())
    with_column, without = (taken(tmp_path / f"{name}.jsonl", images, plain) for name in "pq")
    ids = [request.sample_id for request in with_column]
    assert ids == [request.sample_id for request in without]
    assert len(with_column.rejected) == len(without.rejected) == 1


def test_a_picture_fills_the_frame_undistorted(images: ConditionReader) -> None:
    wide = Image.new("RGB", (300, 100), (0, 0, 0))
    wide.paste((255, 255, 255), (100, 0, 200, 100))  # the middle third is a white square
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    ref = images.read("image", buffer.getvalue())
    frame = frame_of(dataclasses.replace(BASE, conditions=(ref,)))
    assert np.asarray(frame).min() > 240  # Lanczos rings at its edges


def test_a_replaced_image_is_an_error(tmp_path: Path, images: ConditionReader) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png())
    ref = images.read("image", str(file))
    file.write_bytes(png((1, 1, 1)))
    with pytest.raises(ValueError, match="was replaced since the run began"):
        frame_of(dataclasses.replace(BASE, conditions=(ref,)))


def test_clips_from_images_do_not_share_a_call(images: ConditionReader) -> None:
    ref = images.read("image", png())
    one = dataclasses.replace(BASE, conditions=(ref,))
    assert batch_key(one) != batch_key(dataclasses.replace(one, prompt="q"))
    assert batch_key(BASE) == batch_key(dataclasses.replace(BASE, prompt="q"))


@pytest.mark.parametrize(
    "name",
    [
        name if name == "ltx-video-i2v" else pytest.param(name, marks=pytest.mark.slow)
        for name in FROM_IMAGE
    ],
)
def test_the_image_reaches_the_pixels(
    name: str,
    images: ConditionReader,
    tiny_resolved: Callable[[str], ResolvedModel],
    request_for: Callable[..., SampleRequest],
) -> None:
    model = tiny_resolved(name)
    engine = load_engine(model, device="cpu")
    # Wan 2.1 counts on a text of 512 tokens behind those of the image.
    length = {"max_sequence_length": 512} if name.startswith("wan") else {}
    clips = []
    for data in (png(), png(), png((0, 0, 200))):
        ref = images.read("image", data)
        request = request_for(model, conditions=(ref,), **length)
        clips += engine.generate([request])
    assert clips[0].frames.shape == (9, 64, 64, 3)
    assert np.array_equal(clips[0].frames, clips[1].frames)
    assert not np.array_equal(clips[0].frames, clips[2].frames)
    with pytest.raises(ValueError, match="needs image"):
        engine.generate([request_for(model, **length)])
    engine.close()


VIDEO = (
    MediaCondition("video"),
    MediaCondition("mask", required=False, needs="video"),
    MediaCondition("reference_images", required=False),
)


def clip_bytes(path: Path, level: int = 90, frames: int = 16) -> bytes:
    """A video of 8 frames a second, all of one grey."""
    mp4.write(np.full((frames, 32, 48, 3), level, np.uint8), 8, {}, path)
    return path.read_bytes()


def test_columns_of_files_are_read_by_their_kind(tmp_path: Path, images: ConditionReader) -> None:
    data = clip_bytes(tmp_path / "a.mp4")
    (tmp_path / "one.png").write_bytes(png())
    row = {
        "video": {"bytes": data, "path": None},
        "mask": png((255, 255, 255)),
        "reference_images": ["one.png", png((0, 0, 9))],
    }
    found = images.resolve(row, VIDEO, str(tmp_path))
    (video,), (mask,) = found["video"], found["mask"]
    assert (video.seconds, mask.seconds) == (2.0, None)
    assert images.storage.read_bytes(f"videos/{video.sha256[:2]}/{video.sha256}") == data
    assert [file.column for file in found["reference_images"]] == ["reference_images"] * 2
    as_text = images.resolve({**row, "reference_images": '["one.png"]'}, VIDEO, str(tmp_path))
    assert as_text["reference_images"] == found["reference_images"][:1]
    files = (video, mask, *found["reference_images"])
    request = dataclasses.replace(BASE, conditions=files)
    identity = request.identity()
    assert identity["video"] == video.sha256
    assert identity["reference_images"] == [file.sha256 for file in found["reference_images"]]
    assert SampleRequest.from_json(request.to_json()) == request
    swapped = dataclasses.replace(request, conditions=(video, mask, *files[:1:-1]))
    assert swapped.sample_id != request.sample_id
    takes_all = dataclasses.replace(FROM_FIRST, conditions=VIDEO)
    arguments = condition_arguments(takes_all, dataclasses.replace(request, fps=8))
    assert [frame.size for frame in arguments["video"]] == [(64, 64)] * 9
    assert {frame.mode for frame in arguments["mask"]} == {"L"}
    assert [image.size for image in arguments["reference_images"]] == [(96, 64)] * 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "video is missing: this model needs it"),
        ({"video": None}, "video is empty: this model needs it"),
        ({"video": png()}, "video bytes: is a picture, not a video"),
        ({"video": b"junk"}, "video bytes: cannot be decoded"),
        ({"video": "/nowhere.mp4"}, "video /nowhere.mp4: not found"),
        ({"video": "a.mp4", "mask": b"junk"}, "mask bytes: cannot be decoded"),
        ({"video": "a.mp4", "reference_images": "[nonsense"}, "is no JSON list"),
        ({"video": "a.mp4", "reference_images": ["a.mp4"]}, "reference_images .*a.mp4: cannot be"),
        ({"video": "a.mp4", "reference_images": ["x.png"] * 17}, "more than the limit of 16"),
    ],
)
def test_a_bad_file_is_a_rejected_row(
    row: dict[str, Any], message: str, tmp_path: Path, images: ConditionReader
) -> None:
    clip_bytes(tmp_path / "a.mp4")
    with pytest.raises(RowRejectedError, match=message):
        images.resolve(row, VIDEO, str(tmp_path))


def test_a_mask_needs_its_video(images: ConditionReader) -> None:
    optional = (MediaCondition("video", required=False), *VIDEO[1:])
    with pytest.raises(RowRejectedError, match="mask means nothing without video"):
        images.resolve({"mask": png()}, optional)


def test_a_video_that_is_too_short_is_a_rejected_row(
    tmp_path: Path, images: ConditionReader
) -> None:
    clip_bytes(tmp_path / "a.mp4")
    lines = ['{"prompt": "a", "video": "a.mp4"}', '{"prompt": "b", "video": "a.mp4", "fps": 2}']
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    intake = taken(
        tmp_path / "p.jsonl", images, dataclasses.replace(DEFAULTS, conditions=VIDEO[:1])
    )
    assert [request.prompt for request in intake] == ["a"]
    (row,) = intake.rejected
    assert row.message.startswith("video lasts 2.00 s, and the clip 4.50 s (9 frames, 2 a second)")


def test_requests_of_older_runs_are_read(images: ConditionReader) -> None:
    ref = images.read("image", png())
    now = dataclasses.replace(BASE, conditions=(ref,))
    stored = json.loads(now.to_json())
    del stored["conditions"]
    stored |= {"image": ref.sha256, "image_at": ref.at}
    assert SampleRequest.from_json(json.dumps(stored)) == now
