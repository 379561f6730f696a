"""Caption the clips of a dataset: `python jobs/caption.py --help` says how."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["caption"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["caption"].run())
