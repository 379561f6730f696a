"""The public names of the library, and what asking for one of them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sencache
from sencache import extension


def test_every_public_name_is_there_and_belongs_to_a_module_of_the_library() -> None:
    assert 15 <= len(sencache.__all__) <= 22
    assert set(sencache.__all__) <= set(dir(sencache))
    for name in sencache.__all__:
        found = getattr(sencache, name)
        module = getattr(found, "__module__", "sencache.presets")
        assert getattr(sys.modules[module], name) is found
        assert module.startswith("sencache.")


def test_the_extension_surface_repeats_no_public_name() -> None:
    assert not set(extension.__all__) & set(sencache.__all__)
    assert {name for name in vars(extension) if not name.startswith("_")} == set(extension.__all__)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="apply_cache"):
        sencache.apply_cache  # type: ignore[attr-defined] # noqa: B018


def test_settings_profiles_and_budgets_do_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from sencache import PRESETS, QUALITY, SenCacheConfig, SensitivityProfile\n"
        "from sencache.schedules.budget import computed_steps\n"
        "sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
