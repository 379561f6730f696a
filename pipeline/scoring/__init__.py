"""Numbers about finished clips.

Measures frames; stores no rows and selects no clips.
"""
