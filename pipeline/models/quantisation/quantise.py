"""Quantises the weights of denoising networks with the quantizers of diffusers.

Only weights of linear layers are stored in fewer bits. Activations, norms, layers that diffusers
keeps in float32, text encoders and VAE keep their precision. Adapters are merged before, so they
are quantised with the weights that they change. Loads no torch until it quantises.
Written against diffusers 0.42, torchao 0.18 and bitsandbytes 0.50.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

Quantise = Literal["none", "int8", "fp8", "nf4"]
"""How weights are stored: as they are; in 8-bit whole numbers or 8-bit floats (e4m3), both with one
scale per output channel; in 4-bit normal floats, with one scale per 64 weights (QLoRA,
arXiv:2305.14314)."""

LIBRARIES = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}
"""The library that stores weights so."""

FP8_CAPABILITY = (8, 9)
"""CUDA compute capability from which GPUs have 8-bit floats (Ada, Hopper)."""


def check_quantise(quantise: Quantise, device: str) -> None:
    """Make sure that weights can be quantised so on a kind of device, with what is installed.

    Args:
        quantise: The setting.
        device: `cuda` or `cpu`; `auto` while it is not known.

    Raises:
        UserError: They cannot; the text says what would be right.
    """
    if quantise == "none":
        return
    library = LIBRARIES[quantise]
    if quantise == "nf4" and device == "cpu":
        raise UserError(
            "--engine.quantize nf4 needs a GPU (diffusers refuses bitsandbytes on a CPU): use int8"
        )
    if importlib.util.find_spec(library) is None:
        raise UserError(
            f"--engine.quantize {quantise} needs {library}, which is not installed: "
            f"pip install 'sencache-pipeline[quantize]', or pip install {library}"
        )


def quiet_libraries() -> None:
    """Leave out what torchao 0.18 and torch 2.14 warn about whenever they are imported together.

    It concerns checkpoints saved by torchao and registrations inside of it, and no user can act on
    it. Call it before the first pipeline class of diffusers is imported, which imports torchao.
    """
    for name in ("diffusers.quantizers.torchao.torchao_quantizer", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def quantise_network(network: Any, quantise: Quantise, device: torch.device) -> None:
    """Quantise the weights of one loaded network, in place.

    Args:
        network: A diffusers transformer in full precision, without adapters that are not merged.
        quantise: How; not `none`.
        device: Where the quantised weights go.

    Raises:
        UserError: The device or the installed libraries cannot do it.
    """
    from diffusers.quantizers.auto import DiffusersAutoQuantizer

    check_quantise(quantise, device.type)
    _check_capability(quantise, device)
    quantizer = DiffusersAutoQuantizer.from_config(_config(quantise), pre_quantized=False)
    quantizer.validate_environment()
    values = dict(network.named_parameters())
    # It may replace layers by its own, so the values are kept until they are quantised.
    quantizer.preprocess_model(
        network,
        device_map=None,
        keep_in_fp32_modules=list(network._keep_in_fp32_modules or ()),
    )
    for name in list(values):
        value = values.pop(name)
        if quantizer.check_if_quantized_param(network, value, name, {}):
            quantizer.create_quantized_param(network, value.data, name, device, {}, [])
    quantizer.postprocess_model(network)
    network.hf_quantizer = quantizer
    network.requires_grad_(False)


def _check_capability(quantise: Quantise, device: torch.device) -> None:
    import torch

    if quantise != "fp8" or device.type != "cuda":
        return
    found = torch.cuda.get_device_capability(device)
    if found < FP8_CAPABILITY:
        raise UserError(
            f"--engine.quantize fp8 needs a GPU of compute capability 8.9 or more (Ada, Hopper), "
            f"and {torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}: use int8"
        )


def _config(quantise: Quantise) -> Any:
    """The configuration of diffusers' quantizer."""
    import diffusers
    import torch

    if quantise == "nf4":
        return diffusers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    # torchao's settings for torch.compile are the process's; a run's own settings decide.
    weights = Int8WeightOnlyConfig if quantise == "int8" else Float8WeightOnlyConfig
    return diffusers.TorchAoConfig(weights(set_inductor_config=False))
