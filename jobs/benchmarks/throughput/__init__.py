"""Benchmarks of whole runs, compared with engines alone.

They measure the pipeline, not the cache.
"""
