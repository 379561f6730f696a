"""The verdict of a report in four sentences: what there is, how good, at what cost, what next.

All numbers are those of the report; nothing is measured here.
"""
