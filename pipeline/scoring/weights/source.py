"""Where a scorer's weights are, which version they are, and which frames a model looks at.

The configuration is read when a scorer is made, so that a wrong place ends the command at once; the
weights are loaded with the first clip, only in the process that scores it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, message_of
from pipeline.scoring.scorer import Frames

MOST_FRAMES = 8
"""Frames of a clip that image models look at, evenly spread, the first and the last among them."""

DEVICES = ("cpu", "cuda")
HASH_DIGITS = 12


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A model's place, as the argument of a scorer says it.

    Attributes:
        place: A local folder, or the id of a repository of the Hub.
        device: `cpu` or `cuda`.
        flag: The option, the name and its argument, for messages.
    """

    place: str
    device: str
    flag: str

    @classmethod
    def parse(cls, name: str, argument: str, option: str = "--scorers") -> WeightsSource:
        """Read `PLACE` or `PLACE:DEVICE`.

        Args:
            name: Of the scorer or captioner.
            argument: What stands behind its name.
            option: The flag that names it.

        Raises:
            UserError: There is no argument.
        """
        flag = f"{option} {name}={argument}"
        place, _, device = argument.rpartition(":")
        if device not in DEVICES:
            place, device = argument, "cpu"
        if not place:
            raise UserError(
                f"{option} {name}: needs weights: {name}=FOLDER or {name}=OWNER/REPOSITORY "
                "of the Hub; add :cuda to run on a GPU"
            )
        return cls(place, device, flag)

    def config(self) -> Any:
        """Read the model's configuration.

        Raises:
            UserError: It cannot be read, or a local folder holds no safetensors.
        """
        from transformers import AutoConfig

        if Path(self.place).is_dir() and not self._files():
            raise UserError(f"{self.flag}: the folder holds no *.safetensors")
        return self._read(AutoConfig.from_pretrained)

    def load(self, kind: Any, dtype: str = "float32") -> Any:
        """Load a model from safetensors, in evaluation, on its device.

        Args:
            kind: Class of the model.
            dtype: Name of the type of its weights; `auto` keeps the type of the file.
        """
        model = self._read(kind.from_pretrained, use_safetensors=True, dtype=dtype)
        return model.eval().to(self.device)

    def load_part(self, kind: Any) -> Any:
        """Load a tokenizer or a processor."""
        return self._read(kind.from_pretrained)

    def version(self) -> str:
        """The commit of the repository, or the first digits of a hash of a folder's weights."""
        from huggingface_hub import try_to_load_from_cache

        if Path(self.place).is_dir():
            return content_hash(self._files())
        cached = try_to_load_from_cache(self.place, "config.json")
        if not isinstance(cached, str):
            raise UserError(
                f"{self.flag}: the commit of its configuration is not in the Hub's cache"
            )
        return Path(cached).parent.name[:HASH_DIGITS]  # snapshots/COMMIT/config.json

    def _files(self) -> list[Path]:
        return sorted(Path(self.place).glob("*.safetensors"))

    def _read(self, load: Callable[..., Any], **options: Any) -> Any:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        try:
            return load(self.place, trust_remote_code=False, local_files_only=offline, **options)
        except Exception as error:  # transformers raises many kinds
            raise UserError(f"{self.flag}: {message_of(error)}") from error


def content_hash(files: list[Path]) -> str:
    """The first digits of the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:HASH_DIGITS]


def spread_frames(frames: Frames) -> list[Frames]:
    """Up to `MOST_FRAMES` frames of a clip, evenly spread."""
    count = min(MOST_FRAMES, len(frames))
    return list(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)])


class Embedder:
    """A two-tower model of images and texts (CLIP, SigLIP); several threads may use it at once."""

    def __init__(self, source: WeightsSource) -> None:
        """Read the configuration; the weights are loaded when they are first used.

        Raises:
            UserError: The configuration cannot be read, or is of another kind of model.
        """
        self._source = source
        config = source.config()
        if not hasattr(config, "text_config") or not hasattr(config, "vision_config"):
            raise UserError(
                f"{source.flag}: a {config.model_type} model; it should embed images and texts, "
                "as CLIP and SigLIP do"
            )
        self._pads = str(config.model_type).startswith("siglip")
        self._tokens = int(config.text_config.max_position_embeddings)
        self.version = source.version()
        # A tokenizer of Rust may not be used by two threads, and one clip at a time is enough.
        self._lock = threading.Lock()

    def images(self, frames: list[Frames]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Embed frames, normalised to length 1; shape [frames, width]."""
        import torch

        with self._lock, torch.inference_mode():
            pixels = self._images(images=frames, return_tensors="pt").to(self._source.device)
            return _unit(self._model.get_image_features(**pixels))

    def text(self, caption: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Embed a caption, cut to what the model reads, normalised to length 1; shape [width]."""
        import torch

        with self._lock, torch.inference_mode():
            tokens = self._tokenizer(
                [caption],
                truncation=True,
                max_length=self._tokens,
                padding="max_length" if self._pads else False,
                return_tensors="pt",
            ).to(self._source.device)
            if self._pads:  # SigLIP is trained on captions of full length, without a mask
                tokens = {"input_ids": tokens["input_ids"]}
            return _unit(self._model.get_text_features(**tokens))[0]

    @functools.cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        return self._source.load(AutoModel)

    @functools.cached_property
    def _images(self) -> Any:
        from transformers import AutoImageProcessor

        return self._source.load_part(AutoImageProcessor)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return self._source.load_part(AutoTokenizer)


def _unit(output: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    # transformers 5 gives an output object, earlier versions the tensor itself.
    features = getattr(output, "pooler_output", output).float().cpu().numpy()
    found: np.ndarray[Any, np.dtype[np.float32]] = features / np.linalg.norm(
        features, axis=-1, keepdims=True
    )
    return found
