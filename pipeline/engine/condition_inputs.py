"""What a clip starts from besides its text, as arguments of a pipeline's call.

The driver has read and checked the files (`pipeline.prompts.condition_reader`); a worker reads them
again. Images and videos are scaled until they cover the frame and cropped at their centre: nothing
is distorted. Reference images keep their own size, because the pipelines place them themselves.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image, ImageOps

from pipeline.models.spec import PipelineClass
from pipeline.prompts.condition_columns import ConditionFile, MediaKind
from pipeline.prompts.pixels import is_image, upright_rgb
from pipeline.prompts.videos import frames_at
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import locate


def condition_arguments(pipeline: PipelineClass, request: SampleRequest) -> dict[str, Any]:
    """Return the media of a request as arguments of its pipeline's call; none without any.

    Raises:
        ValueError: A file has changed since the run began, or a video is too short.
        StorageError: A file cannot be read.
    """
    media: dict[str, Any] = {}
    for condition in pipeline.conditions:
        files = [file for file in request.conditions if file.column == condition.column]
        if files:
            media[condition.argument_name] = media_of(condition.kind, files, request)
    return pipeline.condition_arguments(media, request) if media else {}


def media_of(kind: MediaKind, files: list[ConditionFile], request: SampleRequest) -> Any:
    """The media of a column: an RGB image, images, a list of RGB frames, or of grey ones."""
    if kind == "images":
        return [_image(_bytes_of(file)) for file in files]
    data = _bytes_of(files[0])
    if kind == "image":
        return _fitted(_image(data), request)
    if kind == "mask" and is_image(data):
        return [_fitted(_image(data), request).convert("L")] * request.num_frames
    frames = frames_at(data, request.fps, request.num_frames)
    fitted = [_fitted(frame, request) for frame in frames]
    return [frame.convert("L") for frame in fitted] if kind == "mask" else fitted


def _bytes_of(file: ConditionFile) -> bytes:
    storage, name = locate(file.at)
    data = storage.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ValueError(f"{file.at} was replaced since the run began")
    return data


def _image(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return upright_rgb(image)


def _fitted(image: Image.Image, request: SampleRequest) -> Image.Image:
    return ImageOps.fit(image, (request.width, request.height), Image.Resampling.LANCZOS)
