"""Configurations and constructors of the model's parts, and its word-level tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from jobs.benchmarks.demo_model.captions import caption_words
from pipeline.models.demo import DEFAULTS

Z_DIM = 16
_TEXT_DIM = 128
_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"

VAE_CONFIG: dict[str, Any] = {
    # Frames are folded 2x2 into channels, then halved twice in space and time: 8x and 4x in all.
    "base_dim": 16,
    "decoder_base_dim": 24,
    "z_dim": Z_DIM,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
    "latents_mean": [0.0] * Z_DIM,
    "latents_std": [1.0] * Z_DIM,
}

TRANSFORMER_CONFIG: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "in_channels": Z_DIM,
    "out_channels": Z_DIM,
    "text_dim": _TEXT_DIM,
    "freq_dim": 128,
    "ffn_dim": 768,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}

TEXT_ENCODER_CONFIG: dict[str, Any] = {
    "d_model": _TEXT_DIM,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def make_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Builds the tokenizer: one lower-case word is one token, each text ends with ``</s>``.

    Args:
        words: The words of captions; by default those of the sprite world.
    """
    known = words or caption_words()
    vocabulary = {word: i for i, word in enumerate([_PAD, _END, _UNKNOWN, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, vocabulary[_END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        unk_token=_UNKNOWN,
        model_max_length=DEFAULTS.max_sequence_length,
        padding_side="right",
    )


def make_text_encoder(vocabulary_size: int, **changes: Any) -> UMT5EncoderModel:
    """Builds the text encoder with fresh weights from torch's global generator.

    Args:
        vocabulary_size: Number of tokens.
        **changes: Entries that replace those of ``TEXT_ENCODER_CONFIG``.
    """
    return UMT5EncoderModel(
        UMT5Config(vocab_size=vocabulary_size, **{**TEXT_ENCODER_CONFIG, **changes})
    )


def make_transformer(**changes: Any) -> WanTransformer3DModel:
    """Builds the denoiser with fresh weights from torch's global generator.

    Args:
        **changes: Entries that replace those of ``TRANSFORMER_CONFIG``.
    """
    return WanTransformer3DModel(**{**TRANSFORMER_CONFIG, **changes})


def make_vae(**changes: Any) -> AutoencoderKLWan:
    """Builds the autoencoder with fresh weights from torch's global generator.

    Args:
        **changes: Entries that replace those of ``VAE_CONFIG``.
    """
    return AutoencoderKLWan(**{**VAE_CONFIG, **changes})
