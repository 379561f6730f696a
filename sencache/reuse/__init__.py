"""What a reused step returns: the last output, a forecast, or the blocks' residual.

Runs and fills in; does not decide (`sencache.policies`).
"""
