"""How many clips are good, what a good one cost, and what the scores of a dataset look like.

Reads the scores of rows and those that were given later; scores nothing itself.
"""
