"""From prompt rows to `SampleRequest`s: ids, seeds, defaults, controls, and what is left to do.

Knows neither Ray nor how a clip is sampled.
"""
