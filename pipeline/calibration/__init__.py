"""Profiles and budget curves of registered models.

The measuring itself is `sencache.calibration`'s.
"""
