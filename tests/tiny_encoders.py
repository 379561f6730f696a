"""Tiny text encoders and tokenizers with random weights, as saved pipelines have them."""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers import Regex, pre_tokenizers

from tests.model_builders import letters, t5, words
from tests.sencache.support.tiny_models import DIM, POOLED

_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "out_hidden_size": DIM,
    "fullatt_block_indexes": [0],
}


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
    if name.startswith("HunyuanVideoImage"):
        return {
            "text_encoder": llava(),
            "tokenizer": marked(),
            "text_encoder_2": clip(),
            "tokenizer_2": words(),
            "image_processor": transformers.CLIPImageProcessor(
                size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}, do_rescale=False
            ),
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
    if name.startswith("LTX2"):
        return {"text_encoder": gemma(DIM // 2), "tokenizer": words()}
    if name.startswith("Cosmos2_5"):  # which joins the outputs of all layers
        return {"text_encoder": qwen_text(layers=1), "tokenizer": chatting(lead=0)}
    if name.startswith("EasyAnimate"):
        return {"text_encoder": qwen_text(), "tokenizer": chatting(lead=0)}
    if name.startswith("MotifVideoImage"):
        return {"text_encoder": t5gemma(), "tokenizer": words(), "feature_extractor": square(32)}
    return {"text_encoder": t5(), "tokenizer": letters()}


def square(side: int) -> Any:
    """An image processor of SigLIP."""
    return transformers.SiglipImageProcessor(size={"height": side, "width": side})


def chatting(lead: int = 108) -> Any:
    """A tokenizer that puts messages behind one another, and words to be cut off before them."""
    tokenizer = words()
    tokenizer.chat_template = (
        f"{{{{ 'a ' * {lead} }}}}"
        "{% for each in messages %}"
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


def marked() -> Any:
    """A tokenizer that reads words and signs, and knows the marks of HunyuanVideo's template."""
    tokenizer = words()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\s+|(?<=\w)\w+"), "removed"
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|end_header_id|>", "<|start_header_id|>", "<image>"]}
    )
    return tokenizer


def llava() -> Any:
    """A language model that sees an image of 24 x 24 patches."""
    tokenizer = marked()
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=48,
            patch_size=2,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=DIM,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            pad_token_id=0,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return transformers.LlavaForConditionalGeneration(config).eval()


def t5gemma() -> Any:
    """The encoder of T5Gemma 2, which sees images too."""
    config = transformers.T5Gemma2EncoderConfig(
        text_config={
            "vocab_size": 64,
            "hidden_size": DIM,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "dropout_rate": 0.0,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": DIM,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
        mm_tokens_per_image=4,
        eoi_token_index=62,
        boi_token_index=61,
        image_token_index=60,
    )
    return transformers.T5Gemma2Encoder(config, eoi_token_index=62).eval()


def gemma(width: int = DIM) -> Any:
    config = transformers.Gemma2Config(
        vocab_size=words().vocab_size,
        hidden_size=width,
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


def qwen_text(layers: int = 3) -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 64,
            "hidden_size": DIM,
            "intermediate_size": 32,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        },
        vision_config=_VISION,
    )
    return transformers.Qwen2_5_VLTextModel(config.text_config).eval()
