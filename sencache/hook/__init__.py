"""One step's way through a transformer: the hook, its call, its position, the state of a run.

Knows when a step happens, not whether it is worth computing (`sencache.policies`).
"""
