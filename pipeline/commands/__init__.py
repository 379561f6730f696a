"""The commands: each parses its arguments, calls the pipeline and returns an exit code.

`sencache-pipeline NAME` and `jobs/NAME.py` of a checkout both run them.
"""
