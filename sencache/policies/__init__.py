"""Whether the network runs: one module per policy, and what they share.

Decides; neither runs the network nor knows what a reused step returns (`sencache.reuse`).
"""
