"""The only door to files: local folders, S3, and anything else fsspec speaks.

Handles bytes, keys and retries; knows nothing of rows or clips.
"""
