"""The video models that the pipeline can run: what they are, where their weights lie, loading."""
