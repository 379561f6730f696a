"""Benchmarks of the accuracy of sensitivity profiles.

They sample clips with a real model, without Ray.
"""
