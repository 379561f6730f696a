"""Measures sensitivity profiles and budget curves of registered models.

How a profile is measured is the matter of `sencache.calibration`.
"""
