"""Batch generation of video datasets: Ray Data over groups of GPUs, a row and an mp4 a sample."""

__version__ = "0.1.0"
