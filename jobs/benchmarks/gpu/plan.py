"""The ten sections with their time bounds, in the order of what is most wanted."""

from __future__ import annotations

from jobs.benchmarks.gpu import loops, parts, whole
from jobs.benchmarks.gpu.sections import Section

SECTIONS = (
    Section("facts", 5, parts.facts),
    Section("attention", 20, parts.attention),
    Section("parity", 70, whole.parity),
    Section("batch1", 90, loops.batch_of_one),
    Section("waits", 30, loops.waits),
    Section("decode", 55, parts.decode),
    Section("engine", 50, whole.engine),
    Section("batch2", 95, loops.batch_of_two),
    Section("large", 45, parts.large),
    Section("compile", 75, loops.compiled),
)
"""Bounds are about 1.5 times what an H200 took (docs/gpu.md)."""
