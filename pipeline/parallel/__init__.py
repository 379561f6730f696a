"""How one model is split over the ranks of a group: layout, Ulysses, ring, guidance, VAE.

Changes networks; starting and watching ranks is `pipeline.ranks`'s.
"""
