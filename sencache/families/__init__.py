"""The transformer families of diffusers: one file each with all that is particular to it.

Describes networks; neither hooks into one nor runs one.
"""
