"""How one model is split over the ranks of a group: layout, Ulysses, ring, guidance, decoder.

Changes networks inside ranks; `pipeline.ranks` starts and watches the ranks.
"""
