"""Conditions in parts: the terms that AND joins, so that a report can say what each rejects.

Also finds what in an expression gives another value each time, and says what is wrong with one.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.dataset.schema import NO_SCORES, SCHEMA
from pipeline.errors import UserError
from pipeline.prompts.column_names import close_name


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


_CLOCKS = {
    *("now", "today", "ago", "transaction_timestamp", "txid_current"),
    *("get_current_time", "get_current_timestamp", "current_localtime", "current_localtimestamp"),
}
_CLOCK_WORDS = {
    *("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
}
"""Words that read the clock without brackets; DuckDB's parser takes them for columns."""


def refuse_changing(text: str, flag: str) -> None:
    """Refuse an expression that draws a random number or reads the clock.

    Verdicts, splits and what is exported would be others each time. An expression that is no SQL
    passes; whoever evaluates it says what is wrong.

    Args:
        text: SQL (DuckDB) of an expression; "" for none.
        flag: The option that it comes from.

    Raises:
        UserError: With the function.
    """
    if not text:
        return
    with duckdb.connect(config={"threads": 1}) as database:
        query = "select json_serialize_sql(?)"
        (tree,) = database.execute(query, [f"select ({text})"]).fetchone() or ("",)
    for name in _changing(json.loads(tree)):
        raise UserError(
            f"{flag} {text}: {name} gives another value each time; an expression should always "
            "give a row the same one"
        )


@functools.cache
def _random_functions() -> frozenset[str]:
    with duckdb.connect(config={"threads": 1}) as database:
        found = database.execute(
            "select distinct function_name from duckdb_functions() where stability = 'VOLATILE'"
        ).fetchall()
    return frozenset(name for (name,) in found)


def _changing(node: Any) -> Iterator[str]:
    """What in a tree of DuckDB's parser gives another value each time."""
    if isinstance(node, dict):
        if node.get("class") == "FUNCTION":
            name = str(node["function_name"]).lower()
            given = node.get("arguments") or node.get("children") or ()  # of DuckDB 2, and of 1
            to_today = name == "age" and len(given) == 1
            if to_today or name in _CLOCKS or name in _CLOCK_WORDS or name in _random_functions():
                yield f"{name}()"
        elif node.get("class") == "COLUMN_REF" and node["column_names"][0].lower() in _CLOCK_WORDS:
            yield node["column_names"][0]
        for child in node.values():
            yield from _changing(child)
    elif isinstance(node, list):
        for child in node:
            yield from _changing(child)


def asked_scores(text: str, scores: Sequence[str], flag: str) -> tuple[str, ...]:
    """The scores that an expression needs: all of them if it asks for more than named scores.

    Columns that follow from scores (`good`, `scores`, `perceptual_hash`, …) ask for all, and so
    does a name that is neither a score nor a column.

    Args:
        text: SQL (DuckDB) of an expression.
        scores: Names of the scores that rows can have.
        flag: The option that it comes from, for messages.

    Raises:
        UserError: It is not SQL.
    """
    own = {name.casefold(): name for name in scores}  # DuckDB's names have no case
    plain = {name.casefold() for name in SCHEMA.names} - {"good", *NO_SCORES}
    names = {name.casefold() for term in terms_of(text, flag) for name in term.names}
    if "columns" in text.casefold() or not names <= own.keys() | plain:
        return tuple(scores)
    return tuple(name for key, name in own.items() if key in names)


_UNKNOWN = re.compile(
    r'(?:Referenced column "(?P<name>[^"]*)"|does not have a column named "(?P<of>[^"]*)"'
    r'|Referenced table "(?P<table>[^".]*))'
)
_NO_FIELD = re.compile(r'Could not find key "(?P<name>[^"]*)" in struct')
MOST_INPUTS = 20
"""Columns of the input that a message names."""

_NO_FUNCTION = re.compile(r"Function with name (?P<name>\S+) does not exist")


def said_inputs(names: Sequence[str]) -> str:
    """Say which columns of the input rows keep in `source`."""
    if not names:
        return "rows keep no columns of the input"
    more = f" and {len(names) - MOST_INPUTS} more" if len(names) > MOST_INPUTS else ""
    return f"rows keep these columns of the input: {', '.join(names[:MOST_INPUTS])}{more}"


def problem_of(
    error: duckdb.Error,
    scores: Sequence[str],
    why_none: str = "",
    *,
    inputs: Sequence[str] = (),
) -> str:
    """What is wrong with an expression, in one line, with the names that exist.

    Args:
        error: What DuckDB says of a query that holds the expression in brackets.
        scores: Names of the scores that rows have.
        why_none: Why there are none.
        inputs: Columns of the input that rows keep in `source`.
    """
    said, *more = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    kind, _, said = said.partition(": ")
    said = said.rstrip("!")
    if found := _UNKNOWN.search(said):
        name = next(filter(None, found.groups()), "")
        near = close_name(name, [*scores, *SCHEMA.names, *inputs])
        known = f"scores are {', '.join(scores)}" if scores else f"there are no scores{why_none}"
        problem = f"there is no column or score {name!r}"
        if near and near in inputs:
            return f"{problem}; did you mean source->>'{near}', a column of the input? ({known})"
        if near:
            return f"{problem}; did you mean {near}? ({known})"
        kept = f"; {said_inputs(inputs)} (write source->>'NAME')" if inputs else ""
        return f"{problem}; {known}; columns are {', '.join(SCHEMA.names)}{kept}"
    if kind == "Parser Error":
        if said.endswith(('near ")"', 'near "from"', "at end of input")):
            said = "its end or a bracket is missing"
        return f"this is no SQL expression: {said}"
    if found := _NO_FUNCTION.search(said):
        near = next((line for line in more if line.startswith("Did you mean")), "")
        return f"there is no function {found['name']}" + near.replace("Did you", "; did you")
    if found := _NO_FIELD.search(said):
        fields = "".join(more).removeprefix("Candidate Entries: ")
        return f'there is no field "{found["name"]}"; some that are near are {fields}'
    return said


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
