"""Make a clip dataset: `python jobs/generate.py --config jobs/configs/demo.yaml`.

Exit codes: 0 done; 1 more samples failed than allowed; 2 bad configuration or input; 130
interrupted: what is made is kept, and the same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.config.run_config import load_config
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.redaction import guard_output

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one generation job and return its exit code."""
    try:
        with interruptible():  # from the start, because loading libraries takes a while
            config = load_config(sys.argv[1:] if argv is None else argv)
            from pipeline.run import run  # loads Ray, so not before the command line is checked

            result = run(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:  # before the first clip or after the last one
        return EXIT_INTERRUPTED
    if config.dry_run:
        return 0
    if result.interrupted:
        return EXIT_INTERRUPTED
    return 0 if result.failed_fraction <= config.max_failed_fraction else EXIT_FAILED


if __name__ == "__main__":
    guard_output()
    sys.exit(main())
