"""The settings of a run: typed sections, the YAML file, the flags, help and error texts.

Does not check the rules of a model; `pipeline.requests.defaults` does.
"""
