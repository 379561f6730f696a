"""Attempts at samples: the ledger that bounds them, their order, and who is to blame.

Works without Ray; the engine and the store of clips are given.
"""
