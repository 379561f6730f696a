"""One file per model family, with everything that is particular to it; importing them is cheap.

To add a **pipeline class** of a family that is here, describe it in the family's file and list it
in `PIPELINES`. From then on every folder, mirror and repository that is saved as this class runs by
`--model-path` alone:

    VIDEO_TO_VIDEO = dataclasses.replace(
        TEXT_TO_VIDEO,
        name="WanVideoToVideoPipeline",
        conditions=(MediaCondition("video"),),
    )
    PIPELINES = (TEXT_TO_VIDEO, VIDEO_TO_VIDEO)

`pipeline.models.spec.PipelineClass` says what each field means.

To add a **model** by name, append a `ModelSpec` to `MODELS`: its class, its repository with a
pinned commit, its licence, the settings that its authors sample with, and where these are from.

To add a **family**, write its file here and add the file's name to
`pipeline.models.registry.FAMILIES`. The file defines a `ModelFamily` (`base.py`), overrides what
differs, and lists `PIPELINES` and `MODELS`. torch and diffusers are imported inside functions only.
The transformer classes of a family, and how to read their calls, are in `sencache.families`; the
two have one name.

A tiny pipeline of each class with random weights goes into `tests/model_builders.py`.

A folder holds at most 14 modules. When there are more families, split the folder by what drives
the sampler: `flow/` for those of a flow-matching scheduler and `diffusion/` for the others, and
write the folder into the name: `FAMILIES = ("flow.wan", ..., "diffusion.cogvideox")`. `base.py`
stays here.
"""
