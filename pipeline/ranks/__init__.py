"""The processes of a group: their start and end, their messages, their failures and timeouts.

Knows how ranks live and die, not how a model is split over them (`pipeline.parallel`).
"""
