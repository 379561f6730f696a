"""Training of the demonstration model; run ``python -m pipeline.models.demo.train``."""
