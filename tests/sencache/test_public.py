"""The library's door: every public name is behind it, and most of them cost nothing to ask for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import sencache


def test_every_public_name_is_there_and_is_the_one_of_its_module() -> None:
    assert sorted(sencache.__all__) == sorted(sencache._MODULES)
    assert set(sencache.__all__) <= set(dir(sencache))
    for name, module in sencache._MODULES.items():
        found = getattr(sencache, name)
        assert found is getattr(importlib.import_module(f"sencache.{module}"), name)
        assert getattr(found, "__module__", f"sencache.{module}") == f"sencache.{module}"
    assert not set(sencache.__all__) & set(sencache._MODULES.values())  # a module would hide it


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(AttributeError, match="no attribute 'apply_cache'"):
        sencache.apply_cache  # noqa: B018


def test_settings_and_profiles_do_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from sencache import PRESETS, QUALITY, SenCacheConfig, SensitivityProfile\n"
        "sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
