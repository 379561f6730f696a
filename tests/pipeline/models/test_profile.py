from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import RunConfig
from pipeline.errors import StorageError, UserError
from pipeline.models.profile import leave_to_driver, load_profile
from pipeline.models.registry import MODELS
from pipeline.models.resolve import resolve_model
from pipeline.models.spec import ResolvedModel
from sencache import SensitivityProfile
from tests.model_fixtures import changed

WAN = "wan2.1-t2v-1.3b"


def config(**changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"prompts": "p.txt", "output": "out", "cache": {"policy": "none"}}
    return RunConfig.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "demo"}, "measured with model 'demo'"),
        ({"family": "ltx"}, "measured with family 'ltx'"),
        ({"revision": "f" * 40}, "measured with revision 'ffff"),
    ],
)
def test_a_profile_of_another_model_is_refused(
    profile: SensitivityProfile, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "other.json"
    mine = {"revision": MODELS[WAN].revision}
    changed(profile, **(mine | changes)).save(path)
    cache = {"policy": "paper", "profile": str(path)}
    with pytest.raises(UserError, match=rf"--cache\.profile {path}: .*{message}"):
        load_profile(config(cache=cache).cache, resolve_model(WAN))


def test_a_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    cache = {"policy": "paper", "profile": str(tmp_path / "bad.json")}
    with pytest.raises(UserError, match=r"--cache\.profile .*bad\.json"):
        load_profile(config(cache=cache).cache, resolve_model(WAN))
    cache["profile"] = str(tmp_path / "absent.json")
    with pytest.raises(StorageError, match=r"absent\.json"):
        load_profile(config(cache=cache).cache, resolve_model(WAN))


def test_revisions_of_two_kinds_are_compared_by_the_reader(
    wan_profile: Path,
    tiny_resolved: Callable[[str], ResolvedModel],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = config(cache={"policy": "paper", "profile": str(wan_profile)}).cache
    with caplog.at_level(logging.WARNING):
        assert load_profile(cache, tiny_resolved(WAN)) is not None
    assert "make sure that they are the same weights" in caplog.text


def test_a_process_that_makes_clips_does_not_repeat_what_the_driver_says_of_steps() -> None:
    profile = load_profile(RunConfig(prompts="p", output="o").cache, resolve_model("demo"))
    assert profile is not None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        leave_to_driver(4)
        for steps in (4, 8, 400):
            profile.check(num_inference_steps=steps)
    texts = [str(each.message) for each in found]
    assert ["the run has 8;" in text or "the run has 400;" in text for text in texts] == [True] * 2
