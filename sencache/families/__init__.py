"""What differs between the transformer families of diffusers, one file each.

Describes networks; nothing here hooks into or runs one.
"""
