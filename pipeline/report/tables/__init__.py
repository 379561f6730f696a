"""The tables of a report: rows by time, node, activity, NFE, input, model, policy and cause.

They count and add; money is in `pipeline.report.accounts`, pairs in `pipeline.report.pairs`.
"""
