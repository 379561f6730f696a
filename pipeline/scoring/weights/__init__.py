"""Scorers whose weights are given as an argument: a local folder or a repository of the Hub.

Weights are safetensors, and no code of a repository ever runs. Nothing is downloaded where
`HF_HUB_OFFLINE` is set.
"""
