"""Networks with quantised weights, and the copies in full precision that controls need.

Does not choose when to quantise: that is a setting of the engine.
"""
