"""What a dataset is, what it cost and what caching did: numbers, page, card.

Reads output rows alone; never changes them.
"""
