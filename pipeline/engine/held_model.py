"""What an engine has loaded, and which requests it can therefore serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.protocol import batch_key
from pipeline.models.engine_options import EngineOptions
from pipeline.models.spec import ModelSpec, ResolvedModel
from pipeline.requests.sample_request import SampleRequest


@dataclass(frozen=True, slots=True)
class HeldModel:
    """The weights of an engine, in the words of a request.

    Attributes:
        spec: Of the model.
        revision: Of its weights.
        adapters: What is merged into its networks.
        quantisation: How the weights are stored; "" for full precision.
        has_full: Whether it also holds the networks in full precision.
    """

    spec: ModelSpec
    revision: str
    adapters: tuple[str, ...]
    quantisation: str
    has_full: bool

    @classmethod
    def of(cls, model: ResolvedModel, options: EngineOptions, *, has_full: bool) -> HeldModel:
        """Take it from what an engine was loaded with."""
        return cls(
            model.spec,
            model.revision,
            tuple(adapter.identity for adapter in options.adapters),
            "" if options.quantise == "none" else options.quantise,
            has_full,
        )

    def check(self, requests: Sequence[SampleRequest]) -> None:
        """Refuse a batch that these weights do not serve.

        Raises:
            ValueError: With what the batch asks for and what is held.
        """
        first, spec = requests[0], self.spec
        if len({batch_key(request) for request in requests}) > 1:
            raise ValueError("a batch must agree in everything but its texts and seeds")
        given = {file.column for file in first.conditions}
        taken = {each.column for each in spec.conditions}
        required = {each.column for each in spec.conditions if each.required}
        for column in sorted(given - taken) + sorted(required - given):
            verb = "needs" if column in required else "takes no"
            raise ValueError(f"{spec.name} {verb} {column}")
        if (first.model, first.model_revision) != (spec.name, self.revision):
            raise ValueError(
                f"request is for {first.model} at {first.model_revision}, "
                f"this engine holds {spec.name} at {self.revision}"
            )
        if first.adapters != self.adapters:
            raise ValueError(
                f"request is for the adapters {', '.join(first.adapters) or '(none)'}, this engine "
                f"holds {', '.join(self.adapters) or '(none)'}"
            )
        if first.quantisation != self.quantisation and not (
            self.has_full and not first.quantisation
        ):
            raise ValueError(
                f"request is for weights in {first.quantisation or 'full precision'}, this engine "
                f"holds them in {self.quantisation or 'full precision'}"
            )
