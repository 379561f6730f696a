"""Record what the project does, or compare it with the record."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden.making import make
from tests.golden.record import SECTIONS, differences, is_exact, path_of, text_of, write


def main(argv: Sequence[str] | None = None) -> int:
    """Return 1 where something differs from the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="record anew")
    what.add_argument("--check", action="store_true", help="compare with the record")
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    options = parser.parse_args(argv)
    # As in an activated environment: messages then name the command `python`.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    changed = 0
    for section in [options.only] if options.only else SECTIONS:
        with tempfile.TemporaryDirectory() as folder:
            made = make(section, Path(folder))
        count = len(made["clips"]) if section == "samples" else len(made)
        if options.write:
            write(section, made)
            size = path_of(section).stat().st_size
            print(f"{section}: {count} entries, {size:,} bytes written")
            continue
        found = differences(section, made)
        changed += len(found)
        print("\n".join(found), end="\n" if found else "")
        how = ""
        if section == "samples":
            how = ", frames by their hashes"
            if not is_exact(made):
                how = (
                    ", frames by their coarse grids, because this machine is not the recorded one: "
                    + json.dumps(made["machine"])
                )
        same = text_of(made) == path_of(section).read_text()
        print(
            f"{section}: {count} entries compared{how}; "
            f"{len(found) or 'no'} differences{', byte for byte the same' if same else ''}"
        )
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
