"""The first minutes on a GPU, as a script: `python tests/gpu/first_minutes.py [--tiny]`.

The same as `python jobs/benchmark.py gpu`; infra/README.md says what to do with the result.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from jobs.benchmark import main

if __name__ == "__main__":
    sys.exit(main(["gpu", *sys.argv[1:]]))
