"""Rewrite prompts: `python jobs/rewrite.py --prompts p.txt --to new.jsonl --rewrite module:Class`.

Any callable rewrites, on the cluster. Every row keeps its other columns and its prompt as it was.
`jobs/generate.py --prompts new.jsonl` then makes the clips. Exit codes: 0 done; 2 bad flags or
input; 3 the Ray cluster went away; 130 interrupted, with nothing written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.wording import counted, first_line

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite one file of prompts and return an exit code."""
    options = _parser().parse_args(argv)
    try:
        with interruptible():
            _rewrite(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _rewrite(options: argparse.Namespace, console: Console) -> None:
    from pipeline.cluster.connection import check_gpus, connected
    from pipeline.cluster.rewrite_stage import rewrite_prompts
    from pipeline.monitoring.console import say
    from pipeline.prompts.prompt_file import PROMPT_COLUMN
    from pipeline.prompts.reader import read_source
    from pipeline.prompts.rewriting.rewriter import load_rewriter, rewritten_row
    from pipeline.storage.storage import locate

    storage, name = locate(options.to)
    if not name.endswith((".jsonl", ".ndjson")):
        raise UserError(f"--to {options.to}: should be a .jsonl file")
    if storage.exists(name):
        raise UserError(f"--to {options.to}: is there already; name a new file, or remove it")
    if options.batch_rows < 1:
        raise UserError(f"--batch-rows {options.batch_rows}: should be at least 1")
    check_gpus(options.gpus)
    load_rewriter(options.rewrite)  # before a cluster is started
    rows, bad = [], []
    for row in read_source(options.prompts, options.prompt_column):
        prompt = row.values.get(PROMPT_COLUMN)
        if row.problem or not isinstance(prompt, str) or not prompt.strip():
            bad.append(f"{row.key}: {row.problem or 'it has no prompt'}")
        else:
            rows.append(row)
    if not rows:
        raise UserError(f"{options.prompts}: no row can be rewritten; {bad[0]}")
    with connected():
        found = rewrite_prompts(
            [row.values[PROMPT_COLUMN] for row in rows],
            options.rewrite,
            batch_rows=options.batch_rows,
            gpus=options.gpus,
        )
    lines = [
        json.dumps(rewritten_row(row, each, options.rewrite), ensure_ascii=False, default=str)
        for row, each in zip(rows, found, strict=True)
    ]
    storage.put_bytes(name, "".join(f"{line}\n" for line in lines).encode())
    errors = [each.error for each in found if each.error]
    say(console, f"{counted(len(rows) - len(errors), 'prompt')} rewritten: {options.to}")
    if errors:
        say(console, f"  {len(errors)} stay as they were (rewrite_error), e.g. {errors[0]}")
    if bad:
        say(console, f"  left out: {counted(len(bad), 'bad row')}, e.g. {bad[0]}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=first_line(__doc__, "rewrite"))
    parser.add_argument(
        "--prompts", required=True, help="Parquet, JSONL, CSV, TSV or text; any URI"
    )
    parser.add_argument("--prompt-column", default="prompt", help="column of the prompt")
    parser.add_argument("--to", required=True, help="new .jsonl file; any URI")
    parser.add_argument(
        "--rewrite", required=True, help="what rewrites: module:function, module:Class[=ARGUMENT]"
    )
    parser.add_argument("--batch-rows", type=int, default=8, help="prompts per call; default 8")
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="share of a GPU of each process; default 0"
    )
    return parser
