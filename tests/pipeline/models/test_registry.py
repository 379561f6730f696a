from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pipeline.errors import UserError
from pipeline.models.registry import MODELS, get_model
from pipeline.models.spec import ModelSpec

every_model = pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)


@every_model
def test_a_hub_model_is_pinned_to_a_commit(spec: ModelSpec) -> None:
    if spec.hub_id:
        assert re.fullmatch(r"[0-9a-f]{40}", spec.revision)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.hub_id)
    else:
        assert spec.revision == ""


@every_model
def test_a_model_can_make_its_own_default_size(spec: ModelSpec) -> None:
    size = spec.defaults
    assert not spec.sizes.problem(size.width, size.height, size.num_frames)


@every_model
def test_a_default_sampler_fits_the_family(spec: ModelSpec) -> None:
    assert spec.defaults.sampler in spec.family.samplers


def test_an_unknown_model_names_the_closest_and_all() -> None:
    with pytest.raises(UserError, match=r"did you mean wan2\.1-t2v-1\.3b\?") as caught:
        get_model("Wan2.1-T2V-1.3")
    assert all(name in str(caught.value) for name in MODELS)


def test_nothing_is_suggested_for_a_name_unlike_any() -> None:
    with pytest.raises(UserError, match="known models are demo,") as caught:
        get_model("zzz")
    assert "did you mean" not in str(caught.value)


def test_a_driver_reads_the_registry_without_torch() -> None:
    code = (
        "import sys, pipeline.models.registry, pipeline.models.resolve\n"
        "import pipeline.requests.defaults\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
