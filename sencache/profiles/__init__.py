"""What is measured of a model: sensitivities, drift, gain, and how they were measured.

Holds and reads facts; measuring them is `sencache.calibration`'s.
"""
