"""Datasets in the shapes that trainers read: WebDataset tars, Hub Parquet, FastVideo's folder."""
