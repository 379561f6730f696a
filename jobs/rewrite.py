"""Rewrite prompts: `python jobs/rewrite.py --help` says how."""

import sys

from pipeline.commands.command_line import COMMANDS

main = COMMANDS["rewrite"].main

if __name__ == "__main__":
    sys.exit(COMMANDS["rewrite"].run())
