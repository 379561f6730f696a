"""Second tries: failures whose node or process may be to blame are made elsewhere at the end.

What the node does next tells a bad node from a bad sample: either other samples die there too, or
one is made (`pipeline.attempts.bad_nodes`). Likewise for the process of a sample that raised
(`pipeline.attempts.blame`). Until then a failure gets no row. Knows neither Ray nor
storage; the ledger says which failures are doubtful.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.requests.controls import pack, unpack
from pipeline.requests.sample_request import SampleRequest


class DoubtingLedger(Protocol):
    """The ledger as the driver sees it: `Ledger` itself, or a proxy of one in a Ray actor."""

    def doubtful(self, sample_ids: Sequence[str]) -> dict[str, list[str]]:
        """Those of failed samples whose node may be to blame, by node."""
        ...

    def unproven(self, sample_ids: Sequence[str]) -> list[str]:
        """Those of failed samples whose process may be to blame."""
        ...

    def retry(self, sample_ids: Sequence[str]) -> None:
        """Give samples their attempts back, before another process tries them."""
        ...

    def finish(self, sample_ids: Sequence[str], statuses: Sequence[str] = ()) -> None:
        """Put samples aside whose final row has arrived."""
        ...


MakeElsewhere = Callable[[Collection[str], Collection[str]], Iterable[pa.Table]]
"""Makes samples, given their ids and the nodes to avoid; no rows if there is no other node."""


def settled(
    made: Iterable[pa.Table], ledger: DoubtingLedger, make_elsewhere: MakeElsewhere
) -> Iterator[pa.Table]:
    """Pass on the rows that are final, and tell the ledger about them.

    Args:
        made: Tables of output rows as they come.
        ledger: Records the attempts.
        make_elsewhere: Called after the end of `made`, if failures are doubtful.

    Yields:
        Tables with one row of each sample of `made`; none of them is empty.
    """
    held: list[pa.Table] = []
    for table in made:
        doubted = _named(table, _doubted(ledger, table))
        held.append(table.filter(doubted))
        yield from _final(ledger, table.filter(pc.invert(doubted)))
    failures = pa.concat_tables(held) if held else None
    if failures is None or not failures.num_rows:
        return
    failed = failures["sample_id"].to_pylist()
    nodes, retried = ledger.doubtful(failed), set[str]()
    died = {sample_id for samples in nodes.values() for sample_id in samples}
    unproven = ledger.unproven(failed)
    ledger.retry(unproven)
    # First on other nodes, if there are any; then in other processes, wherever they are.
    for ids, shunned in ((sorted(died), list(nodes)), (unproven, [])):
        if left := [sample_id for sample_id in ids if sample_id not in retried]:
            for table in make_elsewhere(left, shunned):
                retried.update(table["sample_id"].to_pylist())
                yield from _final(ledger, table)
    yield from _final(ledger, failures.filter(pc.invert(_named(failures, retried))))


def requests_for(
    tables: Iterable[pa.Table],
    sample_ids: Collection[str],
    settle: Callable[[list[SampleRequest]], list[SampleRequest]] = lambda unit: unit,
) -> list[pa.Table]:
    """Select the requests of some samples from tables of packed requests.

    Args:
        tables: One column of units each; not read further than to the last of the samples.
        sample_ids: The samples.
        settle: Gives a unit the ids that its rows have, where these were not known yet when it was
            packed.
    """
    wanted, found = set(sample_ids), []
    for table in tables:
        units = [
            unit
            for packed in table.column(0).to_pylist()
            if (unit := [each for each in settle(unpack(packed)) if each.sample_id in wanted])
        ]
        if units:
            found.append(pa.table({table.column_names[0]: [pack(unit) for unit in units]}))
        wanted.difference_update(each.sample_id for unit in units for each in unit)
        if not wanted:
            break
    return found


def _doubted(ledger: DoubtingLedger, table: pa.Table) -> set[str]:
    """Ids of the failures among rows for which the node or the process may be to blame."""
    failed = table.filter(pc.equal(table["status"], "failed"))["sample_id"].to_pylist()
    if not failed:
        return set()
    by_node = ledger.doubtful(failed).values()
    return {sample_id for samples in by_node for sample_id in samples} | set(
        ledger.unproven(failed)
    )


def _named(table: pa.Table, sample_ids: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(table["sample_id"], pa.array(sorted(sample_ids), pa.string()))


def _final(ledger: DoubtingLedger, table: pa.Table) -> Iterator[pa.Table]:
    if table.num_rows:
        ledger.finish(table["sample_id"].to_pylist(), table["status"].to_pylist())
        yield table
