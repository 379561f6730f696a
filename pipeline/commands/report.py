"""Report what a dataset holds and what it cost: `python jobs/report.py --output out/demo`.

Reads the Parquet parts of an output prefix, writes report/index.html and report/report.json beside
them, and prints the same numbers. Safe at any time, also while a run goes on. Before there is a
dataset, `--estimate MODEL:SIZE` prints what clips would cost at the list prices of rented GPUs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from pipeline.commands.parser import CommandParser
from pipeline.errors import UserError
from pipeline.interrupt import interruptible
from pipeline.wording import first_line

EXIT_INTERRUPTED = 130
ESTIMATED = "1,0.5,0.34,0.26"
"""Budgets of an estimate: no cache, then `high`, `balanced` and `fast`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make one report, or repeated ones with `--watch`, and return an exit code."""
    options = _parser().parse_args(argv)
    from pipeline.report.document import Report

    if options.schema:
        print(json.dumps(Report.model_json_schema(), indent=2))
        return 0
    try:
        if bool(options.output) == bool(options.estimate):
            raise UserError(
                "say of which dataset: --output with a folder or s3://bucket/prefix; or, before "
                "there is one, --estimate MODEL:SIZE"
            )
        with interruptible():
            if options.estimate:
                _estimate(options)
            else:
                _report(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not options.watch:  # which has no other end
            print("interrupted; the report of before stands", file=sys.stderr)
            return EXIT_INTERRUPTED
    return 0


def _estimate(options: argparse.Namespace) -> None:
    from pipeline.report.pricing import fits
    from pipeline.report.pricing.offers import markdown, no_offer, offers, parse_kinds
    from pipeline.report.pricing.prices import load_table, read_table

    for flag, value in (("--price", options.price), ("--more-clips", options.more_clips)):
        if value:
            raise UserError(
                f"{flag} goes with --output; --estimate takes list prices (--cloud, --price-table)"
            )
    kinds, budgets = parse_kinds(options.estimate), _budgets(options.what_if or ESTIMATED)
    path = options.price_table
    table = load_table(options.cloud, path) if options.cloud else read_table(path)
    found = offers(kinds, budgets, table, options.market)
    lines = markdown(found, kinds, budgets)
    if not found:
        lines = [no_offer(read_table(path), options.cloud, options.market)]
    print("\n".join([*lines, "", *fits.markdown(kinds, budgets)]))


def _report(options: argparse.Namespace, console: Console) -> None:
    from pipeline.monitoring.console import say
    from pipeline.prefix.first_card import CARD_KEY
    from pipeline.report.pricing.prices import Prices, load_table, parse_prices
    from pipeline.report.pricing.projections import BUDGETS
    from pipeline.report.text import print_report, print_what_if
    from pipeline.report.write import CARD_KEPT, PAGE_KEY, write_report
    from pipeline.storage.places import check_kept
    from pipeline.storage.storage import Storage

    given, table = parse_prices(options.price), load_table(options.cloud, options.price_table)
    budgets = _budgets(options.what_if) if options.what_if else BUDGETS
    prices, storage = Prices(given, table=table, market=options.market), Storage(options.output)
    check_kept(options.output)
    while True:
        written: list[str] = []
        report = write_report(
            storage,
            prices,
            more_clips=options.more_clips,
            budgets=budgets,
            all_duplicates=options.all_duplicates,
            on_written=written.append,
        )
        print_report(report, console)
        if options.what_if:
            print_what_if(report, console)
        if CARD_KEY not in written:
            say(console, CARD_KEPT)
        say(console, f"{storage.uri}/{PAGE_KEY}", one_line=True)
        if not options.watch or not report.runs or report.runs[-1].state != "running":
            return
        time.sleep(options.watch)


def _budgets(text: str) -> Sequence[float]:
    """Read budgets such as `0.25,0.5`."""
    try:
        budgets = [float(item) for item in text.split(",")]
    except ValueError:
        budgets = [0.0]
    if not all(0 < budget <= 1 for budget in budgets):
        raise UserError(f"--what-if {text}: should be shares of the steps, like 0.25,0.34,0.5")
    return budgets


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=first_line(__doc__, "report"))
    parser.add_argument("--output", default="", help="folder or s3://bucket/prefix of the dataset")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="[SCOPE=]DOLLARS",
        help="per GPU-hour; SCOPE is run:ID, label:KEY=VALUE or device:TEXT; may be repeated",
    )
    parser.add_argument("--cloud", default="", help="take list prices of this vendor, e.g. aws")
    parser.add_argument(
        "--market",
        choices=["on-demand", "spot"],
        default="on-demand",
        help="which price of the table counts",
    )
    parser.add_argument("--price-table", default="", help="YAML file instead of the shipped table")
    parser.add_argument("--more-clips", type=int, default=0, help="project so many further clips")
    parser.add_argument(
        "--what-if",
        default="",
        metavar="BUDGETS",
        help="also print what clips would cost at these shares of computed steps, e.g. 0.34,0.5,1",
    )
    parser.add_argument(
        "--estimate",
        default="",
        metavar="MODEL:SIZE,...",
        help="no dataset yet: what clips would cost on rented GPUs, e.g. wan2.1-t2v-14b:480p",
    )
    parser.add_argument(
        "--watch", type=float, default=0.0, metavar="S", help="again every S seconds while it runs"
    )
    parser.add_argument(
        "--all-duplicates",
        action="store_true",
        help="look for near duplicates however many clips there are: a minute for 100,000",
    )
    parser.add_argument("--schema", action="store_true", help="print the schema of report.json")
    return parser
