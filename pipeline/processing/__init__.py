"""The pipeline as a step of a Ray Data program: a Dataset of prompts in, a Dataset of rows out.

`jobs/generate.py` does not use it: its driver reads the input (`pipeline.run`), by the same rules
(`pipeline.requests.intake`).
"""
