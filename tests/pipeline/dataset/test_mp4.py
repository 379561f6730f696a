from __future__ import annotations

import datetime
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset import mp4
from pipeline.dataset.schema import Provenance, SampleOutcome, make_row
from pipeline.dataset.seal import KEY
from pipeline.requests.row_values import MAX_PROMPT_CHARS
from pipeline.requests.sample_request import SampleRequest


def moving_sprite(num_frames: int = 17, height: int = 64, width: int = 96) -> mp4.Frames:
    """A red square moving over a soft gradient."""
    ramp = np.linspace(20, 120, width).astype(np.uint8)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:] = ramp[None, None, :, None]
    for index in range(num_frames):
        left = 4 + 2 * index
        frames[index, 16:32, left : left + 16] = (220, 60, 40)
    return frames


def psnr(one: mp4.Frames, two: mp4.Frames) -> float:
    error = np.mean((one.astype(np.float64) - two.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def test_frames_come_back_close_and_complete(tmp_path: Path) -> None:
    frames = moving_sprite()
    mp4.write(frames, 8, {}, tmp_path / "a.mp4")
    back = mp4.decode(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    assert back.dtype == np.uint8
    assert psnr(frames, back) > 35


def test_flat_colours_do_not_drift(tmp_path: Path) -> None:
    frames = np.empty((3, 32, 32, 3), np.uint8)
    frames[:] = (200, 30, 90)
    mp4.write(frames, 8, {}, tmp_path / "a.mp4", crf=1)
    back = mp4.decode(tmp_path / "a.mp4").astype(int)
    assert np.abs(back - frames.astype(int)).max() <= 3


@pytest.mark.parametrize("fps", [1, 8, 15, 16, 24, 25, 30, 60, 240])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_every_frame_lasts_exactly_one_over_fps(tmp_path: Path, fps: int, num_frames: int) -> None:
    mp4.write(moving_sprite(num_frames), fps, {}, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps
        assert stream.frames == num_frames
        assert stream.duration * stream.time_base * fps == num_frames
        times = [frame.pts * stream.time_base * fps for frame in container.decode(stream)]
    assert times == list(range(num_frames))


def test_identical_input_gives_identical_bytes_without_versions_or_dates(tmp_path: Path) -> None:
    frames = moving_sprite()
    seen = set()
    for index in range(20):
        mp4.write(frames, 8, {"seed": 1}, tmp_path / f"{index}.mp4")
        seen.add((tmp_path / f"{index}.mp4").read_bytes())
    assert len(seen) == 1
    first = seen.pop()
    for banner in (b"x264 - core", b"Lavf", b"Lavc"):
        assert banner not in first
    with av.open(io.BytesIO(first)) as container:
        assert "creation_time" not in container.metadata


def test_index_stands_before_the_pixels(tmp_path: Path) -> None:
    mp4.write(moving_sprite(), 8, {"seed": 1}, tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_an_output_row_comes_back_with_iso_dates(tmp_path: Path) -> None:
    awkward = ('A "quoted" line\n\tтекст 视频 🎬👩‍👩‍👧 \\ </x> ' * 400)[:MAX_PROMPT_CHARS]
    request = SampleRequest(
        prompt=awkward,
        negative_prompt="",
        model="demo",
        model_revision="0" * 16,
        sampler="FlowMatchEulerDiscreteScheduler/3.0",
        num_inference_steps=50,
        guidance_scale=4.0,
        width=96,
        height=64,
        num_frames=17,
        fps=8,
        max_sequence_length=32,
        seed=2**63 - 1,
    )
    row = make_row(request, Provenance(run_id="r"), SampleOutcome("ok"))
    mp4.write(moving_sprite(), 8, row, tmp_path / "a.mp4")
    back = mp4.read_row(tmp_path / "a.mp4")
    assert back["caption"] == awkward
    assert datetime.datetime.fromisoformat(back["created_at"]) == row["created_at"]
    assert back | {"created_at": row["created_at"]} == row


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    row=st.dictionaries(
        st.text().filter(lambda name: name != KEY),  # of the seal itself; no column has this name
        st.text(st.characters()) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_row_comes_back_exactly(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "any.mp4"
    mp4.write(moving_sprite(2, 16, 64), 8, row, path)
    assert mp4.read_row(path) == row


def test_a_megabyte_of_row_survives(tmp_path: Path) -> None:
    row = {"caption": "🎬" * 100_000}
    mp4.write(moving_sprite(2), 8, row, tmp_path / "a.mp4")
    assert mp4.read_row(tmp_path / "a.mp4") == row


def test_bytes_paths_and_files_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    mp4.write(moving_sprite(3), 8, {"seed": 7}, path)
    data = path.read_bytes()
    for source in (path, str(path), data, io.BytesIO(data)):
        assert mp4.read_row(source) == {"seed": 7}
    for source in (path, str(path), data, io.BytesIO(data)):
        assert np.array_equal(mp4.decode(source), mp4.decode(path))


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((2, 15, 16, 3), np.uint8), 8, "must be even"),
        (np.zeros((2, 16, 17, 3), np.uint8), 8, "must be even"),
        (np.zeros((2, 16, 16, 4), np.uint8), 8, "not uint8"),
        (np.zeros((2, 16, 16, 3), np.float32), 8, "not uint8"),
        (np.zeros((0, 16, 16, 3), np.uint8), 8, "no frames"),
        (np.zeros((2, 16, 16, 3), np.uint8), 0, "fps"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    tmp_path: Path, frames: mp4.Frames, fps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mp4.write(frames, fps, {}, tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_the_bytes_are_the_same_where_files_cannot_lie_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = mp4.encode(moving_sprite(), 8, {"seed": 1})
    monkeypatch.delattr("os.memfd_create")
    assert mp4.encode(moving_sprite(), 8, {"seed": 1}) == made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_a_row_that_is_not_json_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is json's own for NaN
        mp4.write(moving_sprite(1), 8, {"x": value}, tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_a_video_without_a_row_says_so(tmp_path: Path) -> None:
    path = tmp_path / "foreign.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        container.metadata["comment"] = json.dumps(["not", "a", "row"])
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="carries no row"):
        mp4.read_row(path)


@pytest.mark.parametrize("kept", [0, 20, 600])
def test_a_file_cut_in_its_header_is_not_a_video(tmp_path: Path, kept: int) -> None:
    mp4.write(moving_sprite(), 8, {"seed": 1}, tmp_path / "a.mp4")
    torn = (tmp_path / "a.mp4").read_bytes()[:kept]
    with pytest.raises(ValueError, match="not a whole video"):
        mp4.read_row(torn)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_file_cut_in_its_pixels_is_noticed(tmp_path: Path, share: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    mp4.write(frames, 8, {"seed": 1}, tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ValueError, match=r"cut short|not a whole video"):
        mp4.decode(data[: int(len(data) * share)])


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mp4.decode(tmp_path / "absent.mp4")


def test_a_row_is_trusted_only_from_a_file_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    row = {"caption": 'says "seal_sha256": "' + "0" * 64 + '"', "a": '"seal_sha256": "' + "1" * 64}
    mp4.write(moving_sprite(3), 8, row, path)
    data = path.read_bytes()
    assert mp4.trusted_row(data) == mp4.read_row(data) == row
    for damaged in (data[:-1], data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1]), b""):
        with pytest.raises(ValueError, match="cut short, damaged, or not made by this pipeline"):
            mp4.trusted_row(damaged)
