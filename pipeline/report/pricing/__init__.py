"""What a GPU hour costs and how much work a clip is.

List prices and estimates; what a run did cost is worked out in `pipeline.report.accounts`.
"""
