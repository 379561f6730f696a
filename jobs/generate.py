"""Make a clip dataset: `python jobs/generate.py --config jobs/configs/demo.yaml`."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["generate"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["generate"].run())
