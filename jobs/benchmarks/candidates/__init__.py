"""Drafts beside finished clips, and what a good clip costs in several ways.

Measures the choosing of `pipeline.candidates`; the embedded model's judge of captions chooses.
"""
