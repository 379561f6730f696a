"""Rewrites prompts with a language model of transformers, as an example of a rewriter.

`--rewrite pipeline.prompts.rewriting.local_llm:LocalLanguageModel=FOLDER` takes a model for causal
language modelling from a local folder. Weights are safetensors, and no code of the folder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError, message_of

INSTRUCTION = (
    "Rewrite this caption of a short video in one sentence. Keep what it shows, and add what the "
    "camera sees: light, colours, movement.\n\nCaption: {prompt}\nRewritten:"
)
NEW_TOKENS = 128


class LocalLanguageModel:
    """Rewrites prompts one by one with the most likely tokens, so equal prompts stay equal."""

    def __init__(self, folder: str) -> None:
        """Load the model on the CPU, or on the GPU if this process sees one.

        Raises:
            UserError: The folder holds no such model.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if not Path(folder).is_dir():
            raise UserError(f"--rewrite: {folder} is no folder on this machine")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True
            )
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"--rewrite: cannot load {folder}: {type(error).__name__}: {message_of(error)}"
            ) from error
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """Rewrite prompts; the first line of each answer counts."""
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> str:
        import torch

        text = INSTRUCTION.format(prompt=prompt)
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        given = self._tokenizer(text, return_tensors="pt").to(self._model.device)
        with torch.no_grad():
            made = self._model.generate(**given, max_new_tokens=NEW_TOKENS, do_sample=False)
        answer = self._tokenizer.decode(
            made[0, given["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return answer.strip().partition("\n")[0]
