"""A tiny Qwen2.5-VL with random weights and a tokenizer of its own, which answers in a given form.

The form is a list of steps, each a choice of texts that are one token each. The generation
configuration favours the texts of a step over all else; the model's own logits choose among them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = (
    *("<|pad|>", "<|unk|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
END = "<|im_end|>"
WORDS = ("user", "assistant", "\n", " ", *"0123456789", "a", "red", "blue", "ball", "Which")
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% else %}"
    "<|vision_start|><|{{ c.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_BIAS = 1000.0

Form = Sequence[Sequence[str]]


def vocabulary(form: Form) -> dict[str, int]:
    """Token of each text."""
    texts = [*SPECIAL, *WORDS, *(text for step in form for text in step)]
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}


def chat_model(folder: Path, form: Form) -> Any:
    """Save a model that answers in a form, and return it."""
    ids = vocabulary(form)
    torch.manual_seed(5)
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
    vision |= {"out_hidden_size": 32, "fullatt_block_indexes": [1]}
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": len(ids)}
    text |= {"eos_token_id": ids[END], "pad_token_id": 0, "bos_token_id": None}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * 0.15)
    model.save_pretrained(folder)
    _processor(ids).save_pretrained(folder)
    steps = [("assistant",), ("\n",), *form, (END,)]
    bias = [
        [[ids[text] for text in texts], _BIAS]
        for three in zip(steps, steps[1:], steps[2:], strict=False)
        for texts in itertools.product(*three)
    ]
    settings = {"eos_token_id": ids[END], "pad_token_id": 0, "sequence_bias": bias}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return model


def _processor(ids: dict[str, int]) -> Any:
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<|unk|>"))
    pieces = Regex(r"\d|\s|[^\d\s]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    return transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56),
        tokenizer=transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<|pad|>", unk_token="<|unk|>", eos_token=END
        ),
        video_processor=transformers.Qwen2VLVideoProcessor(),
        chat_template=_TEMPLATE,
    )


def logits(model: Any, inputs: Any, answer: Sequence[int]) -> torch.Tensor:
    """The logits of the next token after an answer so far, by one pass without a cache."""
    given = dict(inputs)
    more = torch.tensor([list(answer)], dtype=torch.long)
    given["input_ids"] = torch.cat([given["input_ids"], more], dim=1)
    for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        if name in given:
            given[name] = torch.cat([given[name], torch.full_like(more, value)], dim=1)
    with torch.no_grad():
        found: torch.Tensor = model(**given).logits[0, -1]
    return found
