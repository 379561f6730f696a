"""Every video class of diffusers that the cache knows, by its folder alone, through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from tests.folder_clips import NO_CLIPS, FolderRun, check_that_a_folder_makes_clips
from tests.sencache.support.video.table import SUPPORTED, class_of, marks_of

QUICK = {"HunyuanVideo15Pipeline", "WanVACEPipeline"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=marks_of(each, QUICK)) for each in sorted(SUPPORTED)],
)
def test_a_folder_alone_makes_clips(name: str, tmp_path: Path) -> None:
    from tests.whole_pipelines import whole

    folder = tmp_path / "model"
    whole(name).save_pretrained(folder, safe_serialization=True)
    if class_of(name) in NO_CLIPS:
        with pytest.raises(UserError, match="which its signature alone cannot run: it") as caught:
            FolderRun(name, folder, tmp_path)
        assert "\n" not in str(caught.value)
        return
    check_that_a_folder_makes_clips(FolderRun(name, folder, tmp_path))
