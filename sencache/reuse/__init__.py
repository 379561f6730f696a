"""What a reused step returns: the held output, a forecast, or the blocks' residual.

Runs and fills in; does not decide (`sencache.policies`).
"""
