"""The transformer families of diffusers: one file each with all that is particular to it.

A file holds one `Family`, which `registry.py` lists. Nothing here hooks into a network or runs one.
"""
