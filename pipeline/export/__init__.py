"""The index of a dataset, and its exports: WebDataset tars, Hub Parquet, a FastVideo folder.

Copies clips and rows; never changes them.
"""
