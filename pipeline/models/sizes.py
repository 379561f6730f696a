"""Which sizes a model can make, and what is near a size that it cannot.

Known for a pipeline class; a model may have rules of its own. Imports nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS_PER_CLIP = 4096 * 4096 * 64
"""Limit for every model: a clip of more pixels is taken for a mistake."""


@dataclass(frozen=True, slots=True)
class SizeRules:
    """The sizes that a model can make.

    Attributes:
        multiple: Width and height must be multiples of this (spatial stride of the VAE x patch of
            the network), pixels.
        frame_stride: num_frames must be frame_start + k x frame_stride (temporal stride of the
            VAE).
        min_frames: Shortest clip, frames.
        max_frames: Longest clip, frames; None for no limit of the model's own.
        max_pixels: Most pixels of a frame; None for no limit of the model's own.
        max_width: Widest frame, pixels; None for no limit of the model's own.
        max_height: Highest frame, pixels; None for no limit of the model's own.
        only: The widths and heights that it can make; empty for all that the other rules allow.
        frame_start: Frames that the first latent frame stands for, 1 where the VAE treats the first
            frame apart; 0 where it does not.
    """

    multiple: int
    frame_stride: int
    min_frames: int = 1
    max_frames: int | None = None
    max_pixels: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    only: tuple[tuple[int, int], ...] = ()
    frame_start: int = 1

    def problem(self, width: int, height: int, num_frames: int) -> str:
        """Say why a model cannot make a size and which near sizes it can make; "" if it can."""
        if problem := self._frame_problem(width, height):
            return problem
        if num_frames < self.min_frames:
            return (
                f"num_frames {num_frames} is too few for this model: use {self.min_frames} or more"
            )
        if self.max_frames is not None and num_frames > self.max_frames:
            return (
                f"num_frames {num_frames} is too many for this model: use {self.max_frames} or less"
            )
        if beyond := (num_frames - self.frame_start) % self.frame_stride:
            low = num_frames - beyond
            start = f"{self.frame_start} + " if self.frame_start else ""
            return (
                f"num_frames {num_frames} is not {start}a multiple of {self.frame_stride}: "
                f"use {low} or {low + self.frame_stride}"
            )
        if self.max_pixels is not None and width * height > self.max_pixels:
            return (
                f"{width}x{height} is {width * height:,} pixels per frame, and this model makes at "
                f"most {self.max_pixels:,}"
            )
        if width * height * num_frames > MAX_PIXELS_PER_CLIP:
            return (
                f"{width}x{height}x{num_frames} is {width * height * num_frames:,} pixels per "
                f"clip, more than the limit of {MAX_PIXELS_PER_CLIP:,}"
            )
        return ""

    def _frame_problem(self, width: int, height: int) -> str:
        for name, value, most in (
            ("width", width, self.max_width),
            ("height", height, self.max_height),
        ):
            if value % self.multiple:
                low = max(self.multiple, value - value % self.multiple)
                near = f"{low} or {low + self.multiple}" if value > self.multiple else f"{low}"
                return f"{name} {value} is not a multiple of {self.multiple}: use {near}"
            if most is not None and value > most:
                return f"{name} {value} is too much for this model: use {most} or less"
        if self.only and (width, height) not in self.only:
            nearest = min(self.only, key=lambda size: abs(size[0] - width) + abs(size[1] - height))
            return (
                f"{width}x{height} is none of the {len(self.only)} sizes that this model makes: "
                f"the nearest is {nearest[0]}x{nearest[1]}"
            )
        return ""
