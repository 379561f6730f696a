"""The output prefix: schema, mp4 files, Parquet parts, what is committed, recovery, manifest.

Keeps and finds what was made; decides nothing about making it.
"""
