"""Which device a process computes on, and why it has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.engine import device
from pipeline.engine.device import driver_problem, installed_driver, pick_device
from pipeline.errors import UserError

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x)\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"


@pytest.mark.parametrize(("said", "version"), [(OPEN, "580.159.04"), (CLOSED, "550.54.15")])
def test_the_driver_is_read_from_its_own_file(said: str, version: str, tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert installed_driver(file) == ""
    file.write_text(said + "GCC version:  gcc version 12.2.0\n")
    assert installed_driver(file) == version


@pytest.mark.parametrize(
    ("cuda", "driver", "problem"),
    [
        ("13.0", "550.54.15", "CUDA 13.0: it needs 580 or newer"),
        ("13.0", "580.65.06", ""),
        ("12.6", "550.54.15", ""),
        ("12.6", "470.1.2", "it needs 525 or newer"),
        (None, "580.65.06", "without CUDA"),
        ("13.0", "", ""),
    ],
)
def test_a_driver_that_is_too_old_is_told(cuda: str | None, driver: str, problem: str) -> None:
    said = driver_problem(cuda, driver)
    assert problem in said
    assert bool(said) is bool(problem)


def test_a_gpu_that_cannot_be_used_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(device, "installed_driver", lambda: "550.54.15")
    with pytest.raises(UserError, match=r"device cuda: driver 550\.54\.15 is too old"):
        pick_device("cuda")
    monkeypatch.setattr(device, "installed_driver", lambda: "")
    with pytest.raises(UserError, match="sees no GPU"):
        pick_device("cuda")
