"""Fixtures of the tests of `jobs`."""

from tests.local_ray import local_ray, ray_head  # noqa: F401 - pytest finds fixtures by name
from tests.model_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    profile,
    request_for,
    storage,
    tiny_model,
    tiny_resolved,
)
