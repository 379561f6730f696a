"""Reads prompt files and first-frame images: formats in, rows out.

Does not decide what a row means for a clip; that is `pipeline.requests`.
"""
