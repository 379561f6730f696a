"""Fixtures of the field tests."""

from tests.local_ray import local_ray, ray_head  # noqa: F401 - pytest finds fixtures by name
