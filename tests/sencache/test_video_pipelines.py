"""The cache on every video pipeline of diffusers: what has to hold for it, or why it is refused."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from sencache import apply_sencache
from sencache.families.refusals import REFUSED_PIPELINES
from tests.sencache.support.video import properties
from tests.sencache.support.video.table import (
    BROKEN,
    SUPPORTED,
    class_of,
    has_transformer,
    marks_of,
    video_classes,
)

QUICK = {
    "WanPipeline",
    "WanVideoToVideoPipeline",
    "SanaVideoPipeline",
    "CosmosTextToWorldPipeline",
    "Cosmos2VideoToWorldPipeline",
    "MotifVideoPipeline",
}
WITHOUT_TRANSFORMER = {
    *("AnimateDiffControlNetPipeline", "AnimateDiffPAGPipeline", "AnimateDiffPipeline"),
    *("AnimateDiffSDXLPipeline", "AnimateDiffSparseControlNetPipeline"),
    *("AnimateDiffVideoToVideoControlNetPipeline", "AnimateDiffVideoToVideoPipeline"),
    *("I2VGenXLPipeline", "LTX2LatentUpsamplePipeline", "LTX2VideoDiffusionDecodePipeline"),
    *("LTXLatentUpsamplePipeline", "PIAPipeline", "StableVideoDiffusionPipeline"),
    *("TextToVideoSDPipeline", "TextToVideoZeroPipeline", "TextToVideoZeroSDXLPipeline"),
    "VideoToVideoSDPipeline",
}
"""By name: looking for them loads every class of diffusers, which only this file's tests need."""

EVERY_ONE = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks_of(name, QUICK)) for name in sorted(SUPPORTED)],
)


@pytest.mark.slow
def test_every_video_class_of_diffusers_has_its_place() -> None:
    supported = {class_of(name) for name in SUPPORTED}
    places = [supported, REFUSED_PIPELINES.keys(), BROKEN.keys(), WITHOUT_TRANSFORMER]
    assert set(video_classes()) == set().union(*places)
    assert sum(map(len, places)) == len(video_classes())  # none has two
    bare = {name for name, cls in video_classes().items() if not has_transformer(cls)}
    assert bare == WITHOUT_TRANSFORMER
    assert len(supported) >= 40


@pytest.mark.parametrize("name", sorted(REFUSED_PIPELINES.keys() | WITHOUT_TRANSFORMER))
def test_what_is_not_supported_is_refused_in_one_line(name: str) -> None:
    bare = object.__new__(getattr(diffusers, name))
    reason = REFUSED_PIPELINES.get(name, "has no transformer")
    with pytest.raises(ValueError, match=reason) as told:
        apply_sencache(bare, "balanced")
    assert name in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_diffusers_itself_cannot_call_is_still_so(name: str) -> None:
    """When this fails, the class can be supported."""
    cls = getattr(diffusers, name)
    accepted = inspect.signature(getattr(cls, BROKEN[name])).parameters
    assert "text_encoder_index=" in inspect.getsource(cls.__call__)
    assert "text_encoder_index" not in accepted


@EVERY_ONE
def test_without_reuse_nothing_changes(name: str) -> None:
    properties.check_that_nothing_changes_without_reuse(name)


@EVERY_ONE
def test_the_network_runs_as_often_as_was_planned(name: str) -> None:
    properties.check_that_plans_are_kept(name)


@EVERY_ONE
def test_every_row_of_a_batch_is_the_run_of_one(name: str) -> None:
    if SUPPORTED[name].most_rows == 1:
        pytest.skip("the pipeline takes one prompt per call")
    properties.check_that_rows_are_their_runs_alone(name)
