"""The blocks of a transformer, hooked so that a forward records or replays their residual.

The residual is what the blocks together add to the tokens. Written against the hook registry of
diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from diffusers.utils.torch_utils import unwrap_module

from sencache.families.base import Family
from sencache.hook import attachment

HOOK_NAME = "sencache_block"

Forward = Callable[..., Any]
Wrapper = Callable[[Forward, tuple[Any, ...], dict[str, Any]], Any]
"""Replaces a module's forward: takes that forward and the arguments."""


@dataclass
class _BlockRun:
    """One forward that is recorded or replayed; ``residual`` is None while recording."""

    residual: torch.Tensor | None = None
    tokens: torch.Tensor | None = None


class BlockStack:
    """The blocks of one transformer, to be skipped together.

    Works for blocks whose first argument is the tokens and which return them alone or before the
    text's tokens, as those of all known families do; no head uses text tokens. All state is here
    and not on the modules.

    Attributes:
        residual: What the blocks added to the tokens in the last :meth:`record`: shape
            [rows, tokens, dim] and dtype of the tokens, rows as in that forward; a context-parallel
            rank has that of its own tokens. None if that forward did not finish.
    """

    def __init__(
        self, transformer: torch.nn.Module, family: Family, end: str | None = None
    ) -> None:
        """Find the blocks; :meth:`attach` hooks them.

        Args:
            transformer: Its blocks may be compiled.
            family: Its family, which names the lists of blocks.
            end: Module of the transformer at whose input the residual ends; None: after the last
                block (``OfficialSettings.residual_end``).

        Raises:
            ValueError: The family names no blocks, the transformer lacks them, or a hint is added
                after the last block, where no hook sees it.
        """
        if not family.blocks:
            raise ValueError(
                f"the family {family.name!r} names no blocks, so their residual cannot be "
                'reused; set Family.blocks, or reuse the output (policy="paper")'
            )
        self.residual: torch.Tensor | None = None
        self._root = unwrap_module(transformer)
        self._end = end
        blocks = [block for name in family.blocks for block in self._member(name)]
        if not blocks:
            raise ValueError(f"{type(self._root).__name__} has no blocks in {family.blocks}")
        self._last = len(blocks) - 1
        self._paired: list[bool | None] = [None] * len(blocks)  # whether it returns text tokens too
        self._run: _BlockRun | None = None
        self._wrapped = [
            _WrappedModule(block, partial(self._block, index)) for index, block in enumerate(blocks)
        ]
        hints = family.hints
        if hints is not None and hasattr(self._root, hints.blocks):
            layers = getattr(self._root.config, hints.layers)
            if self._last in layers and end is None:
                raise ValueError(
                    f"{type(self._root).__name__} adds a hint after its last block "
                    f"({hints.layers}={layers}), so the residual of its blocks cannot be reused"
                )
            hint = partial(self._hint, *hints.control)
            self._wrapped += [_WrappedModule(block, hint) for block in self._member(hints.blocks)]
        if end is not None:
            self._wrapped.append(_WrappedModule(self._member(end), self._tail))
        self._attached = False

    def attach(self) -> None:
        """Hook the blocks. The hooks act only inside :meth:`record` and :meth:`replay`."""
        for module in self._wrapped:
            module.wrap()
        self._attached = True
        self._forget_registries()

    def detach(self) -> None:
        """Remove the hooks without a trace on the blocks."""
        for module in self._wrapped:
            module.unwrap()
        self._attached = False
        self._forget_registries()

    @contextmanager
    def record(self) -> Iterator[None]:
        """A forward inside runs as usual and leaves its residual in :attr:`residual`."""
        self.residual = None
        with self._running(_BlockRun()):
            yield

    @contextmanager
    def replay(self, residual: torch.Tensor) -> Iterator[None]:
        """A forward inside skips all blocks: the tokens after them are tokens + residual.

        Args:
            residual: What :attr:`residual` was, its rows in the order of the forward's.

        Raises:
            RuntimeError: In the forward, if none was recorded before, because only a recording
                shows what the blocks return.
            ValueError: In the forward, if the residual has another shape than the tokens.
        """
        with self._running(_BlockRun(residual)):
            yield

    @contextmanager
    def _running(self, run: _BlockRun) -> Iterator[None]:
        if not self._attached or self._run is not None:
            state = "is not attached" if not self._attached else "already records or replays"
            raise RuntimeError(f"the BlockStack of {type(self._root).__name__} {state}")
        for module in self._wrapped:
            module.wrap()  # again, because blocks may have been compiled since
        self._run = run
        try:
            yield
        finally:
            self._run = None

    def _block(
        self, index: int, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Replace the forward of a block."""
        run = self._run
        if run is None:
            return forward(*args, **kwargs)
        tokens = _argument(args, kwargs, 0, "hidden_states")
        if index == 0:
            run.tokens = tokens
            _check(run.residual, tokens)
        if run.residual is None:
            output = forward(*args, **kwargs)
            self._paired[index] = isinstance(output, tuple)
            if index == self._last and self._end is None:
                self._keep(run, output[0] if self._paired[index] else output)
            return output
        if index == self._last and self._end is None:
            tokens = _replayed(run)
        if self._paired[index] is None:
            raise RuntimeError("record a forward before one is replayed")
        if self._paired[index]:
            return tokens, _argument(args, kwargs, 1, "encoder_hidden_states")
        return tokens

    def _hint(
        self,
        index: int,
        name: str,
        forward: Forward,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Replace the forward of a hint block; a replay needs no hints."""
        if self._run is None or self._run.residual is None:
            return forward(*args, **kwargs)
        control = _argument(args, kwargs, index, name)
        return control, control

    def _tail(self, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace the forward of the module at whose input the residual ends."""
        run = self._run
        if run is not None and run.residual is None:
            self._keep(run, args[0])
        elif run is not None:
            args = (_replayed(run), *args[1:])
        return forward(*args, **kwargs)

    def _keep(self, run: _BlockRun, tokens: torch.Tensor) -> None:
        if run.tokens is not None:
            self.residual = (tokens - run.tokens).detach()

    def _member(self, name: str) -> Any:
        if not hasattr(self._root, name):
            raise ValueError(f"{type(self._root).__name__} has no attribute {name!r}")
        return getattr(self._root, name)

    def _forget_registries(self) -> None:
        # The transformer's registry, if there is one, caches the list of those below it.
        if hasattr(self._root, "_diffusers_hook"):
            self._root._diffusers_hook.invalidate_child_registries_cache()


class _BlockHook(attachment.RefusesCopy, ModelHook):
    """Calls a :data:`Wrapper` instead of a forward."""

    def __init__(self, wrapper: Wrapper) -> None:
        super().__init__()
        self._wrapper = wrapper

    @torch.compiler.disable
    def new_forward(self, _module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._wrapper(self.fn_ref.original_forward, args, kwargs)


class _WrappedModule:
    """A module whose forward a :data:`Wrapper` replaces.

    A module that was compiled in place is wrapped outside of its graph: a hook inside would break
    the graph.
    """

    def __init__(self, module: torch.nn.Module, wrapper: Wrapper) -> None:
        self._module, self._wrapper = module, wrapper
        self._hooked = self._had_registry = False
        self._compiled: Forward | None = None
        self._outer: Forward | None = None

    def wrap(self) -> None:
        compiled: Forward | None = self._module._compiled_call_impl
        if compiled is None:
            if not self._hooked:
                self._had_registry = hasattr(self._module, "_diffusers_hook")
                attachment.attach(self._module, _BlockHook(self._wrapper), HOOK_NAME)
                self._hooked = True
        elif compiled is not self._outer:
            self.unwrap()
            self._compiled = compiled
            self._outer = lambda *args, **kwargs: self._wrapper(compiled, args, kwargs)
            self._module._compiled_call_impl = self._outer

    def unwrap(self) -> None:
        if self._hooked:
            attachment.detach(self._module, HOOK_NAME)
            registry: HookRegistry = self._module._diffusers_hook
            if not self._had_registry and not registry.hooks:
                del self._module._diffusers_hook
            self._hooked = False
        if self._outer is not None and self._module._compiled_call_impl is self._outer:
            self._module._compiled_call_impl = self._compiled
        self._compiled = self._outer = None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str) -> Any:
    return args[index] if len(args) > index else kwargs[name]


def _check(residual: torch.Tensor | None, tokens: torch.Tensor) -> None:
    if residual is not None and residual.shape != tokens.shape:
        raise ValueError(
            f"the residual is of shape {tuple(residual.shape)} but the tokens are of "
            f"{tuple(tokens.shape)}; replay it on as many rows of the same size"
        )


def _replayed(run: _BlockRun) -> torch.Tensor:
    assert run.tokens is not None  # noqa: S101
    assert run.residual is not None  # noqa: S101
    return run.tokens + run.residual
