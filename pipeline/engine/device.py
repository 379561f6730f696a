"""The device that a process computes on: which one, its name, and its peak memory."""

from __future__ import annotations

import platform
import re
import resource
from pathlib import Path

import torch

from pipeline.errors import UserError

DRIVER_FILE = Path("/proc/driver/nvidia/version")

LEAST_DRIVER = {12: 525, 13: 580}
"""Oldest driver branch for each major version of CUDA, by NVIDIA's table of CUDA compatibility."""


def pick_device(device: str) -> torch.device:
    """Resolve a configured device; `auto` is the GPU if this process sees one.

    Raises:
        UserError: A GPU is asked for and none is visible, or its driver is too old.
    """
    gpu = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if gpu else "cpu")
    if device.startswith("cuda") and not gpu:
        problem = driver_problem(torch.version.cuda, installed_driver())
        raise UserError(
            f"device {device}: {problem}"
            if problem
            else f"device {device}: this process sees no GPU; use --device cpu"
        )
    return torch.device(device)


def installed_driver(said: Path = DRIVER_FILE) -> str:
    """Version of NVIDIA's driver on this node, "" where there is none."""
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", said.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def driver_problem(cuda: str | None, driver: str) -> str:
    """Say why a driver cannot run torch's build, "" if it can or nothing is known.

    Args:
        cuda: CUDA version of the build, such as 13.0; None for one without CUDA.
        driver: Version of the driver, such as 580.159.04; "" if unknown.
    """
    if not driver:
        return ""
    if cuda is None:
        return "this torch is a build without CUDA: install one with it"
    least = LEAST_DRIVER.get(int(cuda.partition(".")[0]), 0)
    if int(driver.partition(".")[0]) >= least:
        return ""
    return (
        f"driver {driver} is too old for torch {torch.__version__}, which is built for CUDA "
        f"{cuda}: it needs {least} or newer"
    )


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory: of a GPU since its counter was reset, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: torch.device) -> str:
    """Name of the hardware, for the column `device_name`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
