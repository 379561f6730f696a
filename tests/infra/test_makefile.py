"""What `make demo` runs, parsed as the job parses it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pipeline.config.run_config import load_config

ROOT = Path(__file__).parents[2]


def test_the_demo_makes_controls_so_that_its_page_shows_what_caching_wins() -> None:
    (line,) = re.findall(r"^\t\S+ jobs/generate\.py (.*)$", (ROOT / "Makefile").read_text(), re.M)
    config = load_config(shlex.split(line))
    assert config.model == "demo"
    assert 0 < config.control_fraction < 1
