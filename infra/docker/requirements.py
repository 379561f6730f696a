"""Print the project's dependencies, one a line, so that an image layer can hold them alone."""

import tomllib
from pathlib import Path


def main() -> None:
    """Print them."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    print("\n".join(project["dependencies"]))  # noqa: T201


if __name__ == "__main__":
    main()
