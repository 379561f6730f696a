"""New captions for finished clips, written from their frames.

Stores them beside the rows; never changes a prompt. What rewrites prompts before clips are made is
`pipeline.prompts.rewriting`.
"""
