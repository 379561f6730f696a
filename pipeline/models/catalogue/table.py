"""The table of `--list-models`: the models of the registry and what each takes. Loads no torch."""

from __future__ import annotations

from rich.table import Table

from pipeline.models.registry import all_models, shipped_folder
from pipeline.models.spec import ModelSpec

NOT_KNOWN = "–"
UNPINNED = "*"
"""Stands behind the name of a model that needs a `--model-path`."""
LEGEND = (
    "Memory is that of the weights in GB, in the types that they run in; sampling takes more. "
    f"{NOT_KNOWN}: not known. Profile: shipped with the model, or measured by a run on its own "
    "first clips. Any folder, org/name of the Hub or s3:// mirror of a known pipeline class runs "
    f"by --model-path alone. {UNPINNED}: runs only with the --model-path that is named below, "
    "or with a copy of it, because no revision of it is pinned."
)

_COLUMNS = (
    *("name", "pipeline class", "licence", "size x frames", "steps", "guidance"),
    *("memory", "profile", "split by"),
)


def models_table() -> Table:
    """Return the table."""
    table = Table(*_COLUMNS, box=None, pad_edge=False, title_justify="left")
    for spec in all_models().values():
        table.add_row(*cells(spec))
    return table


def unpinned() -> list[str]:
    """A line for each model that runs only with a `--model-path`."""
    return [
        f"{UNPINNED} {spec.name}: --model-path {spec.published_as}"
        for spec in all_models().values()
        if spec.published_as
    ]


def cells(spec: ModelSpec) -> tuple[str, ...]:
    """The row of one model, in the order of the table's columns."""
    own = spec.defaults
    second = "" if own.guidance_scale_2 is None else f", then {own.guidance_scale_2:g}"
    return (
        f"{spec.name} {UNPINNED}" if spec.published_as else spec.name,
        spec.pipeline.name,
        spec.licence,
        f"{own.width}x{own.height} x {own.num_frames}",
        str(own.num_inference_steps),
        f"{own.guidance_scale:g}{second}",
        _memory(spec),
        "shipped" if spec.profile else "own",
        _split(spec),
    )


def _memory(spec: ModelSpec) -> str:
    if spec.weights_gb is not None:
        return f"{spec.weights_gb:g}"
    files = list(shipped_folder(spec).rglob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) / 1e9
    return f"{size:.2f}" if files else NOT_KNOWN


def _split(spec: ModelSpec) -> str:
    """The kinds of parallelism that serve a model."""
    family = spec.family
    kinds = dict.fromkeys(kind for each in family.splits.values() for kind in each)
    words: list[str] = [*kinds]
    if kinds and not spec.pipeline.distilled_guidance:
        words.append("cfg")
    if family.shares_decoder:
        words.append("vae")
    return ", ".join(words) or NOT_KNOWN
