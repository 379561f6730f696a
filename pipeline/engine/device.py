"""The device that a process computes on: which one, its name, and its peak memory."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import torch

from pipeline.errors import UserError


def pick_device(device: str) -> torch.device:
    """Resolve a configured device; `auto` is the GPU if this process sees one.

    Raises:
        UserError: A GPU is asked for and none is visible.
    """
    gpu = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if gpu else "cpu")
    if device.startswith("cuda") and not gpu:
        raise UserError(f"device {device}: this process sees no GPU; use --device cpu")
    return torch.device(device)


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
