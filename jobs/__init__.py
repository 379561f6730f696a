"""Entry points. Each is thin: parse, call `pipeline`, set the exit code."""
