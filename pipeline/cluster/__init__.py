"""The Ray side of a run: capacity, nodes, the Ray Data plan and its actors.

Everything that needs Ray is here; what an actor does with a request is `pipeline.attempts`'s.
"""
