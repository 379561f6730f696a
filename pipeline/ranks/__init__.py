"""The processes of a group: launch, protocol, deaths, pace, and the engine over them.

Knows how ranks live and die, not how a model is split (`pipeline.parallel`).
"""
