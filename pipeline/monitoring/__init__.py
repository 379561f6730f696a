"""What people and Prometheus see of a run while it goes on.

Counts output rows; changes nothing.
"""
