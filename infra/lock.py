"""Turn a `pip install --report` file into constraints.txt: one exact version per line."""

import json
import sys
from pathlib import Path

OWN = "sencache-pipeline"


def main() -> None:
    """Print the constraints of the report named on the command line."""
    report = json.loads(Path(sys.argv[1]).read_text())
    pinned = {
        item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"]
        for item in report["install"]
    }
    print("# Exact versions that the Makefile installs; `make lock` writes this file.")  # noqa: T201
    for name, version in sorted(pinned.items()):
        if name != OWN:
            print(f"{name}=={version}")  # noqa: T201


if __name__ == "__main__":
    main()
