"""Say what a dataset is and what it cost: `python jobs/report.py --output out/demo`.

Reads the Parquet parts of an output prefix and writes report/index.html and report/report.json
beside them; prints the same numbers. Safe at any time, also while a run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from pipeline.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Make one report, or one after another with `--watch`; return an exit code."""
    options = _parser().parse_args(argv)
    from pipeline.report.document import Report

    if options.schema:
        print(json.dumps(Report.model_json_schema(), indent=2))
        return 0
    try:
        if not options.output:
            raise UserError("--output: say of which folder or s3://bucket/prefix")
        _report(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the way to end --watch
        pass
    return 0


def _report(options: argparse.Namespace, console: Console) -> None:
    from pipeline.report import PAGE_KEY, Prices, make_report
    from pipeline.report.console import print_report
    from pipeline.report.prices import load_table, parse_prices
    from pipeline.storage import Storage

    given, table = parse_prices(options.price), load_table(options.cloud, options.price_table)
    budgets = _budgets(options.what_if)
    prices, storage = Prices(given, table=table, market=options.market), Storage(options.output)
    while True:
        report = make_report(storage, prices, more_clips=options.more_clips, budgets=budgets)
        print_report(report, console)
        console.print(f"{storage.uri}/{PAGE_KEY}", highlight=False, markup=False, soft_wrap=True)
        if not options.watch or not report.runs or report.runs[-1].state != "running":
            return
        time.sleep(options.watch)


def _budgets(text: str) -> list[float]:
    """Read `0.25,0.5`."""
    try:
        budgets = [float(item) for item in text.split(",")]
    except ValueError:
        budgets = [0.0]
    if not all(0 < budget <= 1 for budget in budgets):
        raise UserError(f"--what-if {text}: should be shares of the steps, like 0.25,0.34,0.5")
    return budgets


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--output", default="", help="folder or s3://bucket/prefix of the dataset")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="[SCOPE=]DOLLARS",
        help="per GPU-hour; SCOPE is run:ID, label:KEY=VALUE or device:TEXT; may be repeated",
    )
    parser.add_argument("--cloud", default="", help="take list prices of this vendor, e.g. aws")
    parser.add_argument("--market", choices=["on-demand", "spot"], default="on-demand")
    parser.add_argument("--price-table", default="", help="YAML file instead of the shipped table")
    parser.add_argument("--more-clips", type=int, default=0, help="project so many further clips")
    parser.add_argument(
        "--what-if",
        default="0.26,0.34,0.42,0.5,0.66,1",
        metavar="BUDGETS",
        help="cost of clips at these shares of computed steps",
    )
    parser.add_argument(
        "--watch", type=float, default=0.0, metavar="S", help="again every S seconds while it runs"
    )
    parser.add_argument("--schema", action="store_true", help="print the schema of report.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
