"""What an output prefix is to those who come to it: whose its files are, and what is missing.

It makes no rows and reads no clips; `pipeline.dataset` does.
"""
