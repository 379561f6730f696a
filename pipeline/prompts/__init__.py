"""Prompt files in: formats, rows, images.

Reads; what a row means for a clip is `pipeline.requests`'s.
"""
