"""What rewrites prompts, and the rows that come of it.

A rewriter is any callable that takes a list of prompts and returns as many texts. The row keeps its
other columns, the prompt as it was, and the rewriter's name. Clips are then made of the new file,
so the rewritten prompt is what decides pixels and sample ids, and a run that is resumed asks no
rewriter again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pipeline.errors import UserError, message_of
from pipeline.prompts.prompt_file import PROMPT_COLUMN, SourceRow
from pipeline.wording import counted

Rewriter = Callable[[Sequence[str]], Sequence[str]]
"""From prompts to as many rewritten prompts, in order."""

BEFORE, BY, ERROR = "prompt_before", "prompt_rewriter", "rewrite_error"
"""Columns of a rewritten row: its prompt as it was; the rewriter; why the prompt is still that."""


@dataclass(frozen=True, slots=True)
class RewrittenPrompt:
    """What became of one prompt.

    Attributes:
        prompt: The new one, or the old one where there is an error.
        error: Why it was not rewritten, "" if it was.
    """

    prompt: str
    error: str = ""


def load_rewriter(text: str) -> Rewriter:
    """Import a rewriter.

    Args:
        text: `module:function`, `module:Class` or `module:Class=ARGUMENT`; a class is called with
            the argument, if there is one, and its instance rewrites.

    Raises:
        UserError: It cannot be imported or called, or its result cannot be called.
    """
    path, given, argument = text.partition("=")
    module, colon, attribute = path.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"--rewrite {text}: should be module:function or module:Class[=ARGUMENT]")
    try:
        found: Any = functools.reduce(getattr, attribute.split("."), import_module(module))
        if isinstance(found, type):
            found = found(argument) if given else found()
        elif given:
            raise UserError(f"--rewrite {text}: {path} is no class, so it takes no =ARGUMENT")
    except UserError:
        raise
    except Exception as error:  # a user's own module can raise anything
        raise UserError(f"--rewrite {text}: {type(error).__name__}: {message_of(error)}") from error
    if not callable(found):
        raise UserError(f"--rewrite {text}: {path} cannot be called")
    rewriter: Rewriter = found
    return rewriter


def rewrite_all(rewriter: Rewriter, prompts: Sequence[str]) -> list[RewrittenPrompt]:
    """Rewrite prompts together, or one by one where that fails, so that only the guilty one fails.

    Never raises what the rewriter raises: a prompt that cannot be rewritten stays as it is.
    """
    try:
        return _checked(prompts, rewriter(list(prompts)))
    except Exception as error:  # noqa: BLE001 - the row says why
        if len(prompts) == 1:
            reason = f"{type(error).__name__}: {message_of(error)}"
            return [RewrittenPrompt(prompts[0], reason)]
    return [found for prompt in prompts for found in rewrite_all(rewriter, [prompt])]


def _checked(prompts: Sequence[str], texts: Sequence[Any]) -> list[RewrittenPrompt]:
    if len(texts) != len(prompts):
        raise ValueError(
            f"the rewriter gave {counted(len(texts), 'text')} for {counted(len(prompts), 'prompt')}"
        )
    return [
        RewrittenPrompt(text.strip())
        if isinstance(text, str) and text.strip()
        else RewrittenPrompt(prompt, "the rewriter gave no text")
        for prompt, text in zip(prompts, texts, strict=True)
    ]


def rewritten_row(row: SourceRow, found: RewrittenPrompt, rewriter: str) -> dict[str, Any]:
    """The columns of a row after its prompt was rewritten.

    Args:
        row: As it was read, without a problem.
        found: What became of its prompt.
        rewriter: As `--rewrite` takes it.
    """
    values = {name: value for name, value in row.values.items() if value is not None}
    image = values.get("image")
    if isinstance(image, str) and row.folder and "://" not in image and image[:1] != "/":
        values["image"] = f"{row.folder}/{image}"  # relative to the file that it was read from
    made = {**row.other, **values, PROMPT_COLUMN: found.prompt}
    if found.error:
        return {**made, ERROR: found.error}
    return {**made, BEFORE: row.values[PROMPT_COLUMN], BY: rewriter}
