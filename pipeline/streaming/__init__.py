"""How a large input reaches the cluster while clips are made: ids, packed requests, counts.

Contains neither what a row means (`pipeline.requests`) nor what Ray does (`pipeline.cluster`).
"""
