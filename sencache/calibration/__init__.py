"""Measuring a profile on sampling runs of a pipeline or on given clips.

Ends where a profile begins (`sencache.profiles`).
"""
