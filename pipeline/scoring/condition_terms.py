"""Conditions in parts: the terms that AND joins, so that a report can say what each rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Term:
    """One of the terms of a condition that AND joins.

    Attributes:
        text: For people, without brackets around the whole.
        sql: As DuckDB writes it.
        names: The columns and scores that it asks for, in order.
    """

    text: str
    sql: str
    names: tuple[str, ...]


_FRAME = "select 1 where "


def terms_of(text: str, flag: str = "--keep") -> tuple[Term, ...]:
    """Split a condition at its outermost ANDs; one that has none is one term.

    Args:
        text: SQL (DuckDB) of a condition.
        flag: The option that it comes from, for messages.

    Raises:
        UserError: It is not SQL.
    """
    with duckdb.connect(config={"threads": 1}) as database:
        (tree,) = database.execute("select json_serialize_sql(?)", [_FRAME + text]).fetchone() or ()
        parsed = json.loads(tree)
        if parsed["error"]:
            raise UserError(f"{flag} {text}: {parsed['error_message']}")
        node = parsed["statements"][0]["node"]
        whole = node["where_clause"]
        joined = whole["type"] == "CONJUNCTION_AND"
        found = []
        for part in whole["children"] if joined else [whole]:
            node["where_clause"] = part
            query = "select json_deserialize_sql(?)"
            (sql,) = database.execute(query, [json.dumps(parsed)]).fetchone() or ("",)
            names = tuple(dict.fromkeys(_columns(part)))
            sql = sql[len(_FRAME) :]
            found.append(Term(_bare(sql), sql, names))
    return tuple(found)


def _columns(node: Any) -> Iterator[str]:
    """Names of the columns in a tree of DuckDB's parser; of `a.b` only `a`."""
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]
        for child in node.values():
            yield from _columns(child)
    elif isinstance(node, list):
        for child in node:
            yield from _columns(child)


def _bare(sql: str) -> str:
    """SQL without one pair of brackets around the whole."""
    depth = 0
    for place, char in enumerate(sql):
        depth += (char == "(") - (char == ")")
        if depth == 0 and place < len(sql) - 1:
            return sql
    return sql[1:-1] if sql.startswith("(") else sql
