"""Benchmarks of cached sampling on one model, without Ray."""
