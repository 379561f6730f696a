"""Measure the profile of a model, for use in many output prefixes: `--help` says how."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["calibrate"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["calibrate"].run())
