"""Guidance with fewer unconditional evaluations, measured and not built.

A step of guidance evaluates the network twice. Here the two branches have budgets of their own.
"""
