"""Score the clips of a dataset: `python jobs/score.py --output out/demo`."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["score"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["score"].run())
