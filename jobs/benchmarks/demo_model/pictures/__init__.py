"""Clips of real photographs, seen by a moving camera behind a moving object: richer than sprites.

No photograph is in the repository: they come with Python packages that are installed anyway.
"""
