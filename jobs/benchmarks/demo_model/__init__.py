"""The embedded model as it was trained: sprites and captions, networks, training, evaluation.

The product holds the trained weights (`pipeline/models/demo`) and needs nothing of this.
"""
