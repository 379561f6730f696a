"""Fixtures of the tests of `jobs`."""

from tests.model_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    profile,
    request_for,
    storage,
    tiny_model,
    tiny_resolved,
)
