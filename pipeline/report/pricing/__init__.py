"""What a GPU hour costs and how much work a clip is.

Estimates and list prices; what a run did cost is `pipeline.report`'s.
"""
