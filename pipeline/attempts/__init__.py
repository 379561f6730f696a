"""Attempts at samples: the ledger that limits them, their order, and which nodes are to blame.

Works without Ray; callers provide the engine and the clip store.
"""
