"""The random numbers of a sample: a generator that reads all 64 bits of a seed.

Torch's CPU generator is a Mersenne Twister that is started from the lower 32 bits of its seed, so
seeds that differ by a multiple of 2^32 would give one clip.
"""

from __future__ import annotations

import numpy as np
import torch

_STATE_AT = 24
"""Bytes of a CPU generator's state before its 624 words: seed, words left, flags, next word. Each
word takes 8 bytes. The format is that of torch's `CPUGeneratorImplStateLegacy`, which stored
checkpoints hold."""
_WORDS = 624


def generator(seed: int) -> torch.Generator:
    """Return a CPU generator whose numbers depend on every bit of a seed.

    A seed below 2^32 gives what `torch.Generator().manual_seed(seed)` gives. For a larger one the
    twister is started from both halves by its authors' `init_by_array` (Matsumoto and Nishimura,
    2002), which numpy has and keeps as it is.

    Args:
        seed: 0 to 2^64-1.
    """
    made = torch.Generator().manual_seed(seed)
    if seed >> 32:
        start = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32]).get_state(legacy=False)
        words = start["state"]["key"].astype(np.uint64)
        state = made.get_state()
        state[_STATE_AT : _STATE_AT + 8 * _WORDS] = torch.from_numpy(words.view(np.uint8))
        made.set_state(state)
    return made
