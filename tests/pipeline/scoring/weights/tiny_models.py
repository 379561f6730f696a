"""Tiny models with random weights and tokenizers of their own, saved as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

WORDS = ("a", "red", "blue", "ball", "cat", "rolls")
SIDE = 32
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 3,
}
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def tokens(caption: str) -> list[int]:
    """Ids of the words of a caption and the end, as the tokenizer of the models gives them."""
    return [4 + WORDS.index(word) for word in caption.split()] + [1]


def pixels(frames: np.ndarray[Any, Any]) -> torch.Tensor:
    """Frames of `SIDE` pixels as the models see them, shape [frames, 3, SIDE, SIDE]."""
    scaled = (torch.from_numpy(frames).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2).float()


def clip(folder: Path) -> Any:
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)
    return _save(folder, transformers.CLIPModel(config))


def siglip(folder: Path) -> Any:
    torch.manual_seed(1)
    config = transformers.SiglipConfig(
        text_config=TEXT | {"projection_size": 16}, vision_config=VISION
    )
    return _save(folder, transformers.SiglipModel(config))


def classifier(folder: Path, labels: tuple[str, ...], **options: Any) -> Any:
    torch.manual_seed(2)
    config = transformers.ViTConfig(**VISION, id2label=dict(enumerate(labels)), **options)
    return _save(folder, transformers.ViTForImageClassification(config))


def _save(folder: Path, model: Any) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    model.eval().save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessor(
        size=size, crop_size=size, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)
    vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2, "<bos>": 3}
    vocab |= {word: 4 + number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    return model
