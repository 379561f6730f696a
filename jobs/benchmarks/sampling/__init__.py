"""Benchmarks of cached sampling on one model, in one process.

No Ray and no storage.
"""
