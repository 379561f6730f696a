"""Small models of other architectures in the sprite world, to check results of the embedded one.

Each is saved as an ordinary pipeline of its diffusers class. They are trained by
``python -m jobs.benchmarks.demo_model.train --shape NAME`` and are not shipped.
"""
