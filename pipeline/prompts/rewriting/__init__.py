"""Rewriting prompts before clips are made of them, by any callable.

Works on rows of prompt files. Makes no request and no sample id: what is rewritten is a new file.
"""
