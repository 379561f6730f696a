"""Whether a model can give what `--save` asks for, as far as its description tells.

What only the loaded pipeline shows is checked there (`pipeline.tensors.call_tensors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.tensors.tensor_file import KINDS, LATENTS, TEXT_EMBEDS, TRAJECTORY

if TYPE_CHECKING:
    from pipeline.models.spec import ModelSpec


def settle_save(save: Sequence[str], spec: ModelSpec) -> tuple[str, ...]:
    """Check what a run stores beside its clips, and put it in order.

    Raises:
        UserError: There is no such kind, or the model's pipeline cannot give it.
    """
    for kind in save:
        if kind not in KINDS:
            raise UserError(f"--save {kind}: should be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    for kind in (LATENTS, TRAJECTORY):
        if kind not in save or not spec.pipeline.own_steps:
            continue
        raise UserError(
            f"--save {kind} does not serve {spec.name}, whose class skips steps or decodes a clip "
            "in parts: leave it out"
        )
    if TEXT_EMBEDS in save and not spec.pipeline.text_embeddings:
        raise UserError(
            f"--save text_embeds: nothing says what the text encoder of {spec.name} gives; list "
            "text_embeddings in a --model-spec, or leave it out"
        )
    return tuple(kind for kind in KINDS if kind in save)
