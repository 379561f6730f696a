"""Settings of every test."""

import os

from hypothesis import settings

# A loaded machine is not a failing test: time limits belong to benchmarks.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# Tests talk to nothing but loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
