import io
import uuid

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import mp4
from pipeline.dataset.contact_sheet import MAX_CLIPS, contact_sheet
from pipeline.storage.storage import Storage


@pytest.fixture
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(f"memory://sheet-{uuid.uuid4().hex}")
    path = tmp_path_factory.mktemp("clip") / "c.mp4"
    frames = np.zeros((9, 32, 64, 3), np.uint8)
    frames[..., 0] = np.linspace(40, 240, 9).astype(np.uint8)[:, None, None]  # reddens with time
    mp4.write(frames, 8, {}, path)
    storage.put_file("c.mp4", path)
    return storage


def sheet(storage: Storage, count: int, caption: str = "a cat") -> Image.Image:
    rows = [{"video": {"path": "c.mp4"}, "caption": caption}] * count
    return Image.open(io.BytesIO(contact_sheet(storage, rows)))


def test_frames_run_from_first_to_last(storage: Storage) -> None:
    picture = np.asarray(sheet(storage, 1).convert("RGB"), np.int16)
    line = picture[picture.shape[0] - 30]
    red = [int(pixel[0]) for pixel in line if pixel[0] - pixel[1] > 20]
    assert red == sorted(red)
    assert red[0] < 60
    assert red[-1] > 220


def test_the_sheet_grows_with_clips_up_to_its_limit(storage: Storage) -> None:
    one, two, three = (sheet(storage, n).size for n in (1, 2, 3))
    assert two[0] > one[0]
    assert two[1] == one[1]
    assert three[1] > two[1]
    assert sheet(storage, MAX_CLIPS).size == sheet(storage, MAX_CLIPS + 5).size


def test_any_caption_can_be_drawn(storage: Storage) -> None:
    assert sheet(storage, 1, "猫 🌆 “x” \n" + "y" * 5000).size == sheet(storage, 1).size


def test_nothing_to_draw_is_said(storage: Storage) -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        contact_sheet(storage, [])
