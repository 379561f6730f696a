"""One file per model family, with everything that is particular to it; importing them is cheap.

To add a family, write its file here and add the file's name to `pipeline.models.registry.FAMILIES`.
The file defines a `ModelFamily` (`base.py`), overrides what differs, and lists its models as
`MODELS`. torch and diffusers are imported inside functions only. The transformer classes of a
family, and how to read their calls, are in `sencache.families`.
"""
