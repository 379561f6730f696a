"""Numbers about finished clips.

Measures frames; keeps no rows and chooses no clips.
"""
