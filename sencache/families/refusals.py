"""Pipelines of diffusers 0.42 whose outputs are not reused, and why.

Their transformers may belong to a known family; it is the loop of the pipeline that no rule here
fits. Runs without reuse (`policy="none"`) work on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORCING = (
    "every latent frame has a time of its own and its own copy of the scheduler, which counts no "
    "steps of the clip"
)
_TILES = "it calls the network for every tile of the clip at each step and blends their outputs"

REFUSED_PIPELINES: Mapping[str, str] = {
    "SkyReelsV2DiffusionForcingPipeline": _FORCING,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _FORCING,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _FORCING,
    "AnyFlowFARPipeline": (
        "its calls also fill a key-value cache for the chunks to come, which a reused step would "
        "leave behind"
    ),
    "HeliosPyramidPipeline": (
        "it samples each chunk in stages of growing size with fresh noise between them, so outputs "
        "of one stage tell nothing of the next"
    ),
    "LTXI2VLongMultiPromptPipeline": (
        "it adds random noise at every step and stops one step before the end of its schedule"
    ),
    "LTX2DFRPipeline": _TILES,
    "LTX2DFRTemporalRefinePipeline": _TILES,
    "Kandinsky6SRPipeline": "it sharpens finished clips tile by tile instead of making one",
    "Cosmos2_5_TransferPipeline": (
        "a control network runs before every call and its result is a condition that changes at "
        "each step"
    ),
    "Cosmos3OmniPipeline": (
        "text, video and sound are packed into one sequence, in which no rows can be told apart"
    ),
    "SanaWMPipeline": (
        "camera paths reach the network as nested tables, in which no rows can be told apart"
    ),
}
"""Reasons by the class name of the pipeline; subclasses count too."""


def refuse_pipeline(target: Any) -> None:
    """Raise for a pipeline whose outputs must not be reused.

    Raises:
        ValueError: It is one of :data:`REFUSED_PIPELINES`.
    """
    for base in type(target).__mro__:
        reason = REFUSED_PIPELINES.get(base.__name__)
        if reason is not None:
            raise ValueError(
                f"SenCache reuses no outputs of {type(target).__name__}: {reason}; "
                'policy="none" works'
            )
