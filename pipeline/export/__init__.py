"""The index of a dataset, and its exports: WebDataset tars, Hub Parquet, FastVideo, Lance.

Copies clips and rows; never changes them.
"""
