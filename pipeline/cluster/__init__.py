"""The Ray side of a run: connection, capacity, nodes, the Ray Data plan and its actors.

Contains everything that needs Ray, but not what an actor does with requests (`pipeline.attempts`).
"""
