"""Export a dataset for a trainer: `python jobs/export.py --output out/demo --to out/wds`."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["export"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["export"].run())
