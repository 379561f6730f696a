"""What turns requests into clips inside one process: the protocol and the diffusers engine.

Knows no Ray, no storage and no attempts.
"""
