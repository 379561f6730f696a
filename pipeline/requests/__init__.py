"""Turns prompt rows into `SampleRequest`s: ids, seeds, defaults, controls, and what is left to do.

Does not schedule them on a cluster and does not sample clips.
"""
