"""Fail the build of an image whose packages are not those it says: `check.py ray=2.60.0 ...`."""

import importlib
import importlib.metadata
import sys

MODULES = (
    "pipeline.commands.generate",
    "pipeline.run",
    "pipeline.engine.diffusers_engine",
    "sencache",
)


def main() -> int:
    """Compare versions, then import what a run imports."""
    for pair in sys.argv[1:]:
        name, _, wanted = pair.partition("=")
        found = importlib.metadata.version(name).partition("+")[0]  # 2.14.1+cpu is 2.14.1
        if found != wanted:
            print(f"{name} is {found}, the image should have {wanted}", file=sys.stderr)  # noqa: T201
            return 1
    for module in MODULES:
        importlib.import_module(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
