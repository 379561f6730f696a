"""The only door to files: local folders, S3, and anything else fsspec speaks.

Knows bytes, keys and retries; never rows or clips.
"""
