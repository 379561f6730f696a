"""What people and Prometheus see of a run: its totals, progress, messages and series.

Counts output rows; influences nothing.
"""
