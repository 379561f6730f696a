"""The engine that samples with a diffusers pipeline, cached by `sencache`.

One call of the pipeline serves a batch. Every sample has its own generator, on the CPU, so its
noise depends on its seed alone: not on the batch, the device or the parallel layout. The cache is
applied for each call and removed after it, so no state can leak from a call, or from one that
failed, into the next. An uncached control and its cached twin can share one loaded model.

Knows nothing of files, ledgers or Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline.calibration.measurement import not_measured
from pipeline.engine.caching import cache_struct, cached
from pipeline.engine.call_shape import callback_arguments, first_frames, guidance_set
from pipeline.engine.condition_inputs import condition_arguments
from pipeline.engine.decode_turns import CallTurn, DecodeTurns, apart, before_decoding
from pipeline.engine.device import device_name, peak_memory_bytes, pick_device
from pipeline.engine.held_model import HeldModel
from pipeline.engine.noise import generator
from pipeline.engine.outputs import sounds_of, to_uint8
from pipeline.engine.protocol import Clip
from pipeline.engine.recording import LastLatents, Latents, measured, recording
from pipeline.engine.stopwatch import stopwatch
from pipeline.models.call import sampling_arguments
from pipeline.models.engine_options import DEFAULT, EngineOptions
from pipeline.models.load import load_pipeline
from pipeline.models.memory.preflight import LargestCall, check_fits, device_memory, try_largest
from pipeline.models.profile import source_of
from pipeline.models.quantisation.full_precision import FullPrecision
from pipeline.models.samplers import make_scheduler
from pipeline.models.spec import ResolvedModel
from pipeline.models.text_encoders import PromptEncoder, embedded_arguments
from pipeline.parallel.rank_role import ALONE, RankRole
from pipeline.requests.sample_request import SampleRequest
from pipeline.tensors.call_tensors import TensorSaver
from sencache import SampleStats, SensitivityProfile

if TYPE_CHECKING:
    from sencache.extension import OutputRecording


class DiffusersEngine:
    """A loaded diffusers pipeline behind the `Engine` protocol.

    Attributes:
        device_name: As the driver reports it; the CPU's model name on a CPU.
        group_size: Ranks that hold the model together.
        on_gpu: Whether it computes on a GPU.
    """

    def __init__(
        self,
        model: ResolvedModel,
        pipe: Any,
        *,
        profile: SensitivityProfile | None = None,
        role: RankRole = ALONE,
        options: EngineOptions = DEFAULT,
        full: FullPrecision | None = None,
    ) -> None:
        """Take over a loaded pipeline; parallelism and offloading must be set up already.

        Args:
            model: What the pipeline was loaded from; requests for another model are refused.
            pipe: From `load_pipeline`.
            profile: Sensitivities of this model; None if all requests are uncached.
            role: What this rank does of the calls that all ranks run together.
            options: With which the pipeline was loaded.
            full: Its networks before they were quantised, for unquantised controls.
        """
        self._device = pipe._execution_device  # not where the parts are, if they are offloaded
        self.device_name = device_name(self._device)
        self.on_gpu = self._device.type == "cuda"
        self._held, self._full = HeldModel.of(model, options, has_full=full is not None), full
        self.group_size, self._role = role.layout.size, role
        self._model, self._pipe = model, pipe
        self._prompts = PromptEncoder(pipe, model.spec)
        self._saver = TensorSaver.of(pipe, model.spec, options.save)
        self._profiles = {profile.hash: profile} if profile else {}
        self._saved_scheduler: Mapping[str, Any] = dict(pipe.scheduler.config)
        self._turns = DecodeTurns(beside=options.decode_beside)

    def generate(self, requests: Sequence[SampleRequest]) -> list[Clip]:
        """Make one clip per request in one call of the pipeline; [] in ranks that do not answer.

        Raises:
            ValueError: The batch mixes settings, or asks for what this model cannot do.
            UserError: The sampler or the cache does not fit the model.
            BadFramesError: The model gave NaN or a clip of another size.
        """
        first = requests[0]
        self._held.check(requests)
        with self._turns.turn(self._device, overlaps=self._may_overlap(first)) as turn:
            clips = self._make(requests, turn)
        if not turn.overlaps:
            return clips
        return [dataclasses.replace(clip, engine_s=turn.busy_s / len(clips)) for clip in clips]

    def _make(self, requests: Sequence[SampleRequest], turn: CallTurn) -> list[Clip]:
        """Make one clip per request while the networks are this call's."""
        first = requests[0]
        generators = [generator(request.seed) for request in requests]
        family, saved = self._model.spec.family, self._saved_scheduler
        self._pipe.scheduler = make_scheduler(
            first.sampler, family, saved, first.sigmas, generators
        )
        device = self._device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        agreement = self._role.agreement
        before = agreement.disagreements if agreement else 0
        cache = first.cache.settings(first.num_inference_steps, first.guidance_scale)
        is_guided = first.guidance_scale > 1.0 and not self._model.spec.pipeline.distilled_guidance
        last = LastLatents(self._role.mark)
        profile = self._profile_of(first)
        stats: list[SampleStats] = []
        with contextlib.ExitStack() as call:
            call.enter_context(self._in_precision(first))
            laps = call.enter_context(stopwatch(self._pipe, self._role.mark))
            if not self._model.spec.pipeline.own_steps:  # it may go on from what it decodes
                call.enter_context(
                    first_frames(self._pipe, first.first_frames, self._model.spec.sizes)
                )
            call.enter_context(guidance_set(self._pipe, first.guidance_scale))
            handle = call.enter_context(cached(self._pipe, cache, profile, agreement))
            outputs = call.enter_context(recording(self._pipe, first, guided=is_guided))
            call.enter_context(self._role.guided(self._pipe))
            is_kept = self._role.answers and not first.draft_of
            kept = call.enter_context(self._saver.watching(self._pipe, answers=is_kept))

            def sampled() -> None:
                stats.extend(handle.stats())
                call.close()  # the next call puts its own cache on the networks
                turn.pass_on()

            pipe = self._pipe
            if turn.overlaps:
                call.enter_context(before_decoding(pipe, sampled))
                pipe = apart(pipe)
            texts, tokens = self._texts(requests)
            output = pipe(
                **texts,
                **sampling_arguments(self._model.spec, first),
                **condition_arguments(self._model.spec.pipeline, first),
                **callback_arguments(pipe, last),
                generator=generators if len(generators) > 1 else generators[0],
                output_type="pt" if self._role.decodes else "latent",
            )
            if not stats:
                stats.extend(handle.stats())
        if not self._role.answers:
            return []
        frames = to_uint8(output.frames, first)
        sounds = sounds_of(self._pipe, output, first.num_frames / first.fps)
        latents = last.per_clip(len(requests))
        files = self._saver.files(requests, kept, texts, [sample.nfe for sample in stats])
        measurement = self._measured(first, outputs, latents[0])
        peak, parallel = peak_memory_bytes(device), self._role.layout.to_row()
        source = source_of(profile, self._model.spec) if profile else ""
        steps = None if self._model.spec.pipeline.own_steps else first.num_inference_steps
        disagreed = agreement.disagreements - before if agreement else 0
        return [
            Clip(
                clip,
                cache_struct(sample, steps, disagreed, source),
                peak,
                laps.text_s,
                laps.decode_s,
                parallel,
                prompt_tokens,
                final,
                measurement,
                sound,
                tensors=file,
            )
            for clip, sample, prompt_tokens, final, sound, file in zip(
                frames, stats, tokens, latents, sounds, files, strict=True
            )
        ]

    def _may_overlap(self, request: SampleRequest) -> bool:
        """Whether a call may decode while the next one samples.

        Not one whose class decides about its steps, because it may sample again after a decode; nor
        one that encodes files with the decoder's own model, or is measured.
        """
        decodes = hasattr(getattr(self._pipe, "vae", None), "decode")
        own_steps = self._model.spec.pipeline.own_steps
        return decodes and not (own_steps or request.conditions or request.records)

    def close(self) -> None:
        """Drop the model and free its device memory."""
        self._prompts.release()
        self._pipe = self._full = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _texts(
        self, requests: Sequence[SampleRequest]
    ) -> tuple[dict[str, Any], Sequence[int | None]]:
        """The texts of a batch as arguments of the call, and the tokens of each prompt."""
        if requests[0].texts:
            return embedded_arguments(requests, self._device)
        encode = self._prompts.embeddings if self._saver.embeds else self._prompts.arguments
        return encode(requests), self._prompts.token_counts(requests)

    def _in_precision(self, request: SampleRequest) -> contextlib.AbstractContextManager[None]:
        """The context in which the pipeline's networks have a request's precision."""
        if self._full is None or request.quantisation == self._held.quantisation:
            return contextlib.nullcontext()
        return self._full.in_place(self._pipe, self._device)

    def _profile_of(self, request: SampleRequest) -> SensitivityProfile | None:
        wanted = request.cache.profile
        if not wanted:
            return None
        if wanted not in self._profiles and request.profile_text:
            profile = SensitivityProfile.from_json(request.profile_text)
            self._profiles[profile.hash] = profile
        if wanted not in self._profiles:
            holds = ", ".join(self._profiles) or "none"
            raise ValueError(f"request wants profile {wanted}, this engine holds {holds}")
        return self._profiles[wanted]

    def _measured(
        self, request: SampleRequest, outputs: OutputRecording | None, latents: Latents | None
    ) -> str:
        """What a recorded request measured; "" for any other."""
        if outputs is None:
            return ""
        if latents is None:
            return not_measured("the pipeline does not show its latents")
        try:
            return measured(self._pipe, self._model, request, outputs, latents)
        except ValueError as error:  # the clip is good, only its drift is not known
            return not_measured(str(error))


def load_engine(
    model: ResolvedModel,
    *,
    device: str = "auto",
    dtype: str = "",
    profile_json: str = "",
    threads: int = 0,
    options: EngineOptions = DEFAULT,
    largest: LargestCall | None = None,
) -> DiffusersEngine:
    """Load a model on one device and make an engine of it; a picklable factory calls it.

    Args:
        model: From `resolve_model`.
        device: Torch device; `auto` is the GPU if this process sees one.
        dtype: Torch dtype name; "" for the model's own.
        profile_json: Text of the sensitivity profile. It is not a path, because nodes do not have
            the driver's files.
        threads: CPU threads of torch in this process; 0 leaves them.
        options: Further settings.
        largest: The largest call of the run, which a GPU tries when the model is loaded.

    Raises:
        UserError: The model cannot be loaded, or not make that call, or there is no such device.
    """
    if threads:
        torch.set_num_threads(threads)
    profile = SensitivityProfile.from_json(profile_json) if profile_json else None
    place = pick_device(device)
    own, (memory, card) = str(place), device_memory(place)
    check_fits(largest, model.spec, memory, card)
    full = FullPrecision.load(model, own, dtype, options) if options.keeps_full else None
    pipe = load_pipeline(model, own, dtype, options=options)
    engine = DiffusersEngine(model, pipe, profile=profile, options=options, full=full)
    if place.type == "cuda" and model.parts == "all":
        calls = 2 if options.decode_beside else 1
        try_largest(engine.generate, largest, model.spec, card, calls)
    return engine
