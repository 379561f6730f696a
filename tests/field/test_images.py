"""Images as people have them: kinds of pixels, places, and cells that are no images at all."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset.committed import Committed
from pipeline.engine.condition_inputs import condition_arguments
from pipeline.errors import RowRejectedError, StorageError
from pipeline.models.registry import PIPELINES
from pipeline.models.sizes import SizeRules
from pipeline.prompts.condition_columns import FIRST_IMAGE
from pipeline.prompts.condition_reader import MAX_BYTES, SILENT, ConditionReader
from pipeline.prompts.pixels import upright_rgb
from pipeline.prompts.reader import read_source
from pipeline.requests.from_row import RequestDefaults
from pipeline.requests.intake import Intake
from pipeline.requests.sample_request import SampleRequest
from pipeline.storage.storage import Storage

FROM_FIRST = PIPELINES["LTXImageToVideoPipeline"]
BASE = SampleRequest("p", "", "ltx-video-i2v", "rev", "S/3", 4, 4.0, 64, 64, 9, 8, 32, 0)
DEFAULTS = RequestDefaults(BASE, None, SizeRules(32, 8), conditions=(FIRST_IMAGE,))
RAMP = np.linspace(0, 255, 64).round().astype(np.uint8)[None, :].repeat(64, 0)


@pytest.fixture
def images(tmp_path: Path) -> ConditionReader:
    return ConditionReader(Storage(str(tmp_path / "out")), store=False, retry_s=0.3)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reopened(data: bytes) -> Image.Image:
    return upright_rgb(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("PNG", Image.fromarray(RAMP.astype(np.uint16) * 257)),
        ("TIFF", Image.fromarray(RAMP.astype(np.uint16) * 257)),
        ("TIFF", Image.fromarray(RAMP.astype(np.int32) * 257)),
        ("TIFF", Image.fromarray(RAMP.astype(np.float32) / 255)),
        ("PNG", Image.fromarray(RAMP)),
        ("PNG", Image.fromarray(RAMP).convert("P")),
        ("PNG", Image.fromarray(RAMP).convert("LA")),
        ("TIFF", Image.fromarray(RAMP).convert("RGB").convert("CMYK")),
    ],
)
def test_a_ramp_stays_a_ramp(kind: str, image: Image.Image) -> None:
    found = np.asarray(reopened(encoded(image, kind)))
    assert found.shape == (64, 64, 3)
    assert np.abs(found.astype(int) - RAMP[..., None]).max() <= 1


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert set(reopened(encoded(clear)).getdata()) == {(255, 255, 255)}
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert set(reopened(encoded(half)).getdata()) == {(255, 127, 127)}
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    assert set(reopened(encoded(palette, transparency=0)).getdata()) == {(255, 255, 255)}


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_photo_stands_upright(mode: str) -> None:
    wide = Image.new(mode, (16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert reopened(encoded(wide, exif=exif)).size == (8, 16)


def test_values_of_an_unknown_range_are_refused() -> None:
    for values in (np.full((4, 4), 70_000, np.int32), np.full((4, 4), 2.0, np.float32)):
        with pytest.raises(ValueError, match="not within 0 to"):
            reopened(encoded(Image.fromarray(values), "TIFF"))


def test_relative_places_are_beside_the_prompts(
    tmp_path: Path, images: ConditionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in" / "images"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(Image.fromarray(RAMP)))
    (tmp_path / "in" / "p.jsonl").write_text(
        '{"prompt": "a", "image": "images/a.png"}\n'
        '{"prompt": "b", "image": "../in/images/a.png"}\n'
        f'{{"prompt": "c", "image": "{folder}/a.png"}}\n'
    )
    monkeypatch.chdir(tmp_path)
    rows = read_source("in/p.jsonl", conditions=DEFAULTS.conditions)
    requests = list(Intake(rows, DEFAULTS, Committed(), files=images))
    assert [request.prompt for request in requests] == ["a", "b", "c"]
    mean = np.asarray(condition_arguments(FROM_FIRST, requests[0])["image"]).mean()
    assert abs(mean - RAMP.mean()) < 1


def test_odd_cells_are_rejected_rows(tmp_path: Path, images: ConditionReader) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(3 << 30)
    (tmp_path / "good.png").write_bytes(encoded(Image.fromarray(RAMP)))
    cells = [
        "foo://x/y.png",
        "s3://",
        "a\0b.png",
        "x" * 5000,
        "/proc/self/mem",
        "/dev/zero",
        "folder.png",
        "empty.png",
        "huge.png",
        "/etc/passwd/x.png",
        "/tmp/" + "a" * 300,
        "simplecache::file:///etc/passwd",
        "http://[::1/x.png",
        "data:image/png;base64,AAAA",
        "~nobody-at-all/x.png",
        "\ud800.png",
        3.5,
        ["a.png"],
    ]
    for cell in cells:
        with pytest.raises(RowRejectedError, match="image"):
            images.read("image", cell, str(tmp_path))
    assert images.read("image", "good.png", str(tmp_path)).at == f"{tmp_path}/good.png"


def test_images_with_too_many_pixels_are_not_decoded(images: ConditionReader) -> None:
    with pytest.raises(RowRejectedError, match="more than the limit of 67,108,864 pixels"):
        images.read("image", encoded(Image.new("1", (9000, 9000))))


class Shop(BaseHTTPRequestHandler):
    """A web server with faults, by path."""

    asked: ClassVar[dict[str, int]] = {}
    sent: ClassVar[dict[str, int]] = {}

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.asked[name] = self.asked.get(name, 0) + 1
        if name.startswith("busy") or (name == "tired.png" and self.asked[name] < 3):
            self.send_error(503)
        elif name == "absent.png":
            self.send_error(404)
        elif name == "endless.png":
            self.send_response(200)
            self.end_headers()
            self.sent[name] = 0
            try:
                while self.sent[name] < 4 * MAX_BYTES["image"]:
                    self.wfile.write(bytes(1 << 20))
                    self.sent[name] += 1 << 20
            except OSError:
                pass
        else:
            data = encoded(Image.fromarray(RAMP))
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("pipeline.storage.retries.BACKOFF_S", 0.001)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_a_busy_server_is_asked_again(shop: str, images: ConditionReader) -> None:
    assert images.read("image", f"{shop}/tired.png").sha256
    assert Shop.asked["tired.png"] >= 3
    with pytest.raises(RowRejectedError, match="not found, or not a file"):
        images.read("image", f"{shop}/absent.png")
    with pytest.raises(RowRejectedError, match="the service answers 503") as caught:
        images.read("image", f"{shop}/busy.png")
    assert "not found" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_stays_silent_ends_the_input(shop: str, images: ConditionReader) -> None:
    quick = dataclasses.replace(images, retry_s=0.05)
    for number in range(SILENT - 1):
        with pytest.raises(RowRejectedError):
            quick.read("image", f"{shop}/busy-{number}.png")
    with pytest.raises(StorageError, match="3 files in a row"):
        quick.read("image", f"{shop}/busy-last.png")


@pytest.mark.slow
def test_an_endless_image_is_read_to_the_limit_only(shop: str, images: ConditionReader) -> None:
    with pytest.raises(RowRejectedError, match="has more bytes than the limit"):
        images.read("image", f"{shop}/endless.png")
    assert Shop.sent["endless.png"] < 2 * MAX_BYTES["image"]
