"""Command-line entry points: each parses its arguments, calls `pipeline` and sets the exit code."""
