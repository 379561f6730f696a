"""A local language model rewrites prompts: tiny, with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.errors import UserError
from pipeline.prompts.rewriting.local_llm import INSTRUCTION, NEW_TOKENS, LocalLanguageModel
from pipeline.prompts.rewriting.rewriter import load_rewriter

WORDS = [f"word{number}" for number in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_answers_are_those_of_greedy_steps_by_hand(folder: Path) -> None:
    path = f"{LocalLanguageModel.__module__}:{LocalLanguageModel.__name__}={folder}"
    first, again, other = load_rewriter(path)(["word1 word2", "word1 word2", "word9"])
    assert first == again
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt, answer in (("word1 word2", first), ("word9", other)):
        ids = tokenizer(INSTRUCTION.format(prompt=prompt))["input_ids"]
        start = len(ids)
        while len(ids) < start + NEW_TOKENS and ids[-1] != 2:
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        expected = tokenizer.decode(ids[start:], skip_special_tokens=True)
        assert answer == expected.strip()
        assert answer


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        LocalLanguageModel(str(tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        LocalLanguageModel(str(tmp_path / "no"))
