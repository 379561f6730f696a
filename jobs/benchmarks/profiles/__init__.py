"""Benchmarks of how far a sensitivity profile can be trusted."""
