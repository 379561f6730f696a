"""Several tries at one clip, as a report tells them: what redraws won, and how drafts agree.

Reads rows alone; `pipeline.candidates` decides which tries are made.
"""
