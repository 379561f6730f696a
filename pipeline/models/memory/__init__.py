"""How much device memory a model needs, from figures that were measured beforehand.

Loads neither torch nor a model; `python jobs/benchmark.py memory --recompute` makes the figures.
"""
