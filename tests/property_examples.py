"""How many examples property tests try: a few in `make test`, all in `make test-all`.

The number of a test that says none is that of its profile (`--hypothesis-profile few` or `all`).
"""

from __future__ import annotations

from hypothesis import settings

FEW, ALL = 25, 100

# A loaded machine is not a failing test: time limits belong to benchmarks.
settings.register_profile("few", deadline=None, max_examples=FEW)
settings.register_profile("all", deadline=None, max_examples=ALL)


def examples(number: int) -> int:
    """How many examples a test tries under the profile of this session.

    Args:
        number: Under the profile `all`.
    """
    return max(1, number * settings.default.max_examples // ALL)
