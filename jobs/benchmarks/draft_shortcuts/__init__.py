"""Ways to save on drafts: finishing from their own outputs, and giving them up half-way.

Measured here and not built; `jobs.benchmarks.candidates` measures what is built.
"""
