"""Training of the demonstration model; run ``python -m jobs.benchmarks.demo_model.train``."""
