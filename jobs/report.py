"""Report what a dataset holds and what it cost: `python jobs/report.py --output out/demo`."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["report"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["report"].run())
