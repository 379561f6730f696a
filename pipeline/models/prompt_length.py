"""How many tokens a prompt has for its text encoder, which cuts off what is beyond its length.

Workers count with the tokenizer of the loaded pipeline. The driver counts with the tokenizer's
file where that is on this machine, so that a run says at its start what will be cut off. Loads
neither torch nor diffusers.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.models.resolve import is_remote
from pipeline.models.spec import ResolvedModel

TOKENIZER = "tokenizer/tokenizer.json"


def token_counts(pipe: Any, prompts: Sequence[str]) -> list[int | None]:
    """Count the tokens of prompts as a pipeline reads them, before it cuts any off.

    Args:
        pipe: A pipeline of diffusers. Its module may clean prompts first (`prompt_clean`) or put
            them into a template (`DEFAULT_PROMPT_TEMPLATE`), whose first tokens are cut off again.
        prompts: Texts.

    Returns:
        Tokens of each, special ones included; None from a pipeline without a tokenizer.
    """
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None:
        return [None] * len(prompts)
    module = sys.modules[type(pipe).__module__]
    clean = getattr(module, "prompt_clean", None) or (lambda text: text)
    template = getattr(module, "DEFAULT_PROMPT_TEMPLATE", None) or {"template": "{}"}
    texts = [template["template"].format(clean(prompt)) for prompt in prompts]
    found = tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)
    return [max(0, len(ids) - template.get("crop_start", 0)) for ids in found["input_ids"]]


class LocalTokenizer:
    """A model's tokenizer on this machine."""

    def __init__(self, file: Path, *, cleans: bool) -> None:
        """Load it.

        Args:
            file: `tokenizer.json`.
            cleans: The pipeline resolves HTML entities and joins white space first.
        """
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._cleans = cleans

    def tokens(self, prompt: str, limit: int) -> list[int] | None:
        """The token ids of a prompt, or None if it is surely shorter than `limit`."""
        # A token is a byte or more; an encoder adds a few special tokens.
        if len(prompt.encode("utf-8", "replace")) + 8 < limit:
            return None
        if self._cleans:
            prompt = re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
        ids: list[int] = self._tokenizer.encode(prompt).ids
        return ids


_CLEANS = {
    **dict.fromkeys(("anyflow", "skyreels_v2", "wan"), True),
    **dict.fromkeys(("cogvideox", "ltx", "mochi"), False),
}
"""By family, whether its pipelines of diffusers 0.42 clean prompts as above."""


def local_tokenizer(model: ResolvedModel) -> LocalTokenizer | None:
    """Return a model's tokenizer if its file is on this machine, else None.

    A family that puts prompts into a template, or cleans them in another way, is left to the
    workers.
    """
    family = model.spec.family.name
    if is_remote(model.location) or family not in _CLEANS:
        return None
    file = Path(model.location) / TOKENIZER
    if not file.is_absolute():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model.location, TOKENIZER, revision=model.revision)
        file = Path(cached) if isinstance(cached, str) else file
    if not file.is_file():
        return None
    return LocalTokenizer(file, cleans=_CLEANS[family])
