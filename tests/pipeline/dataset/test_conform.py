"""Rows of older versions keep all that they say."""

import pyarrow as pa

from pipeline.dataset.parts import conform
from pipeline.dataset.schema import SCHEMA, to_table
from tests.pipeline.report.made import row


def test_missing_columns_and_fields_are_unknown_and_the_rest_stays() -> None:
    now = to_table([row(0), row(1, status="failed")])
    policy = now["cache"].combine_chunks().field("policy")
    nfe = now["cache"].combine_chunks().field("nfe")
    older = now.drop(["worker", "parallel"]).set_column(
        now.column_names.index("cache"),
        "cache",
        pa.StructArray.from_arrays([nfe, policy], ["nfe", "policy"]),
    )
    found = conform(older)
    assert found.schema.equals(SCHEMA)
    assert found["worker"].to_pylist() == [None, None]
    kept = ["policy", "nfe"]
    mine, before = (t["cache"].to_pylist() for t in (found, now))
    assert [{k: c[k] for k in kept} for c in mine] == [{k: c[k] for k in kept} for c in before]
    assert [c["decisions"] for c in mine] == [None, None]
    assert found["video"].to_pylist() == now["video"].to_pylist()
    assert conform(now).equals(now)
    assert conform(now.slice(0, 0)).num_rows == 0
