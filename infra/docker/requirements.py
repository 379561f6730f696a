"""Print the packages of the image, one a line, so that an image layer can hold them alone."""

import tomllib
from pathlib import Path

EXTRAS = ("pipeline", "xfuser")


def main() -> None:
    """Print what the library, the pipeline and split models need."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in EXTRAS)]
    print("\n".join(line for lines in lists for line in lines))  # noqa: T201


if __name__ == "__main__":
    main()
