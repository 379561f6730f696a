"""Benchmarks of large output prefixes: resuming and reporting.

Their rows are synthetic; no model runs.
"""
