"""Benchmarks of large output prefixes: resuming and reporting."""
