"""Several tries at one clip: redraws of clips that are not good, and the best of some drafts.

Decides which requests follow; makes no clip and measures none itself.
"""
