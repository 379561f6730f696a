"""The video models that the pipeline can run: what they are, where their weights are, loading.

Knows neither Ray nor how requests are tried; what is particular to a family is in `families/`.
"""
