"""Benchmarks of whole runs against bare engines."""
