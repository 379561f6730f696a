"""Makers of tiny pipelines with random weights, of the classes that the registry's models use.

Tests get them by the fixtures of `tests.model_fixtures`, which import this module only when a test
needs a model. Nothing is downloaded.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import diffusers
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from tests.model_fixtures import TEXT_TOKENS


def wan(kind: Any = diffusers.WanPipeline, **config: Any) -> Any:
    text = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    parts: dict[str, Any] = {"transformer": _wan_network(), "scheduler": scheduler} | config
    return kind(
        tokenizer=letters(),
        text_encoder=transformers.UMT5EncoderModel(transformers.UMT5Config(**text)).eval(),
        # Last, so that the weights of the other parts do not depend on it.
        **({"vae": _wan_vae()} | parts),
    )


def _wan_vae(**config: Any) -> diffusers.AutoencoderKLWan:
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        **config,
    )


def wan_5b() -> diffusers.WanPipeline:
    """As Wan 2.2 5B: a VAE of stride 16, and a timestep for each token."""
    vae = _wan_vae(patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
    pipe: diffusers.WanPipeline = wan(vae=vae, expand_timesteps=True)
    return pipe


def wan_from_image() -> diffusers.WanImageToVideoPipeline:
    """As Wan 2.1: an image encoder, and the image's latents with a mask beside the noisy ones."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    size = {"height": 32, "width": 32}
    return wan(
        diffusers.WanImageToVideoPipeline,
        transformer=_wan_network(in_channels=12, image_dim=8, added_kv_proj_dim=48),
        image_encoder=transformers.CLIPVisionModel(vision).eval(),
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size),
    )


def wan_two_experts() -> diffusers.WanPipeline:
    return wan(transformer_2=_wan_network(), boundary_ratio=0.875)


WAN_SHAPE: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}


def _wan_network(**config: Any) -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(**(WAN_SHAPE | config))


def cogvideox(*, rotary: bool, scheduler: str) -> diffusers.CogVideoXPipeline:
    return diffusers.CogVideoXPipeline(
        tokenizer=letters(),
        text_encoder=t5(),
        vae=diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=16,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=9,
            max_text_seq_length=TEXT_TOKENS,
            use_rotary_positional_embeddings=rotary,
        ),
        scheduler=getattr(diffusers, scheduler)(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0
        ),
    )


def ltx(kind: Any = diffusers.LTXPipeline) -> Any:
    return kind(
        tokenizer=letters(),
        text_encoder=t5(),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=4,
            attention_head_dim=12,
            cross_attention_dim=48,
            num_layers=2,
            caption_channels=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
        ),
    )


def hunyuan_video() -> diffusers.HunyuanVideoPipeline:
    vocabulary = words()
    llama = transformers.LlamaConfig(
        vocab_size=vocabulary.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=0,
    )
    clip = transformers.CLIPTextConfig(
        vocab_size=vocabulary.vocab_size,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
        bos_token_id=None,
        eos_token_id=1,
    )
    return diffusers.HunyuanVideoPipeline(
        tokenizer=vocabulary,
        text_encoder=transformers.LlamaModel(llama).eval(),
        tokenizer_2=words(),
        text_encoder_2=transformers.CLIPTextModel(clip).eval(),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=12,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            text_embed_dim=16,
            pooled_projection_dim=8,
            rope_axes_dim=(4, 4, 4),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )


def ltx_condition() -> diffusers.LTXConditionPipeline:
    pipe = ltx(diffusers.LTXConditionPipeline)
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()  # it does not shift by the size
    return pipe


def mochi() -> diffusers.MochiPipeline:
    return diffusers.MochiPipeline(
        tokenizer=letters(),
        text_encoder=t5(),
        vae=diffusers.AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        transformer=diffusers.MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=16,
            in_channels=12,
            text_embed_dim=16,
            time_embed_dim=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    )


def skyreels() -> diffusers.SkyReelsV2Pipeline:
    return wan(
        diffusers.SkyReelsV2Pipeline,
        transformer=diffusers.SkyReelsV2Transformer3DModel(**WAN_SHAPE),
    )


def anyflow() -> diffusers.AnyFlowPipeline:
    return wan(
        diffusers.AnyFlowPipeline,
        transformer=diffusers.AnyFlowTransformer3DModel(**WAN_SHAPE),
        scheduler=diffusers.FlowMapEulerDiscreteScheduler(shift=5.0),
    )


BY_CLASS: dict[str, Callable[[], Any]] = {
    "MochiPipeline": mochi,
    "SkyReelsV2Pipeline": skyreels,
    "AnyFlowPipeline": anyflow,
    "LTXConditionPipeline": ltx_condition,
}
"""Classes that no model of the registry has."""

BUILDERS: dict[str, Callable[[], Any]] = {
    "wan2.1-t2v-1.3b": wan,
    "wan2.1-t2v-14b": wan,
    "wan2.2-t2v-a14b": wan_two_experts,
    "wan2.2-ti2v-5b": wan_5b,
    "cogvideox-2b": lambda: cogvideox(rotary=False, scheduler="CogVideoXDDIMScheduler"),
    "cogvideox-5b": lambda: cogvideox(rotary=True, scheduler="CogVideoXDPMScheduler"),
    "ltx-video": ltx,
    "ltx-video-i2v": lambda: ltx(diffusers.LTXImageToVideoPipeline),
    "wan2.1-i2v-14b": wan_from_image,
    "hunyuanvideo": hunyuan_video,
}


def t5() -> transformers.T5EncoderModel:
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return transformers.T5EncoderModel(config).eval()


def letters() -> transformers.T5Tokenizer:
    """A T5 tokenizer that reads letter by letter."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(letter, -3.0) for letter in string.ascii_lowercase + string.digits]
    return transformers.T5Tokenizer(vocab=special + letters, extra_ids=0)


def words() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that tells words by their first letter: enough for prompts to differ."""
    vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    vocab |= {letter: 3 + index for index, letter in enumerate(string.ascii_letters)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+|\B\w+|\B"), "removed")
    tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
    )
