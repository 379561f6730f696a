"""The pipeline as a step of a Ray Data program: a Dataset of prompts in, a Dataset of rows out.

`jobs/generate.py` does not use it: it reads its whole input first (`pipeline.run`).
"""
