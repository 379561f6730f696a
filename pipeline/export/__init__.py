"""Exports of a dataset for trainers: WebDataset tars, Hub Parquet, a FastVideo folder.

Copies clips and rows; never changes the dataset.
"""
