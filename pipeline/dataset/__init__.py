"""The output prefix: schema, mp4 files, Parquet parts, committed samples, recovery, manifests.

Stores and finds finished samples; decides nothing about making them.
"""
