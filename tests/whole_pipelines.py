"""The tiny pipelines of every video class with their text encoders, as saved ones have them."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from tests.model_builders import letters, t5, words
from tests.sencache.support.tiny_models import DIM, POOLED
from tests.sencache.support.video.table import SUPPORTED, class_of

_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": DIM,
    "fullatt_block_indexes": [0],
}


def whole(name: str) -> Any:
    """Make the pipeline of a variant and give it text encoders where it has none.

    Args:
        name: A key of `SUPPORTED`.
    """
    pipe = SUPPORTED[name].make()
    kind = getattr(diffusers, class_of(name))
    if type(pipe) is not kind:  # one that a test of the cache changed
        pipe = kind(**pipe.components)
    for part, made in encoders(name).items():
        if hasattr(pipe, part) and getattr(pipe, part) is None:
            pipe.register_modules(**{part: made})
    return pipe


def encoders(name: str) -> dict[str, Any]:
    """The text encoders and tokenizers of a variant."""
    if name.startswith(("HunyuanVideo15", "Kandinsky")):
        second = clip(DIM) if name.startswith("Kandinsky") else t5()
        return {
            "text_encoder": qwen_text(),
            "tokenizer": chatting(),
            "text_encoder_2": second,
            "tokenizer_2": words() if name.startswith("Kandinsky") else letters(),
        }
    if name.startswith("Hunyuan"):
        return {
            "text_encoder": llama(),
            "tokenizer": words(),
            "text_encoder_2": clip(),
            "tokenizer_2": words(),
        }
    if name.startswith("Sana"):
        return {"text_encoder": gemma(), "tokenizer": words()}
    return {"text_encoder": t5(), "tokenizer": letters()}


def chatting() -> Any:
    """A tokenizer that puts messages behind one another, and words to be cut off before them."""
    tokenizer = words()
    tokenizer.chat_template = (
        "{{ 'a ' * 108 }}{% for each in messages %}"
        "{% if each.content is string %}{{ each.content }}"
        "{% else %}{{ each.content[0].text }}{% endif %} {% endfor %}"
    )
    return tokenizer


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=words().vocab_size,
        hidden_size=DIM,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=0,
    )
    return transformers.LlamaModel(config).eval()


def gemma() -> Any:
    config = transformers.Gemma2Config(
        vocab_size=words().vocab_size,
        hidden_size=DIM,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
    )
    return transformers.Gemma2Model(config).eval()


def clip(width: int = POOLED) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=words().vocab_size,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=None,
        eos_token_id=1,
    )
    return transformers.CLIPTextModel(config).eval()


def qwen_text() -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 64,
            "hidden_size": DIM,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        },
        vision_config=_VISION,
    )
    return transformers.Qwen2_5_VLTextModel(config.text_config).eval()
