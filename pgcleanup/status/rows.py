"""Which rows name a file, for people: a few keys of each column, and no word of a column that does not answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from django.db import DatabaseError, transaction

from pgcleanup import sql
from pgcleanup.columns import FileColumn
from pgcleanup.triggers.render import key_as_text

# No row where the table or the column is not there: models can be ahead of the database. As in the reference
# check, an operator of a type of somebody's own is not called.
_PLACES = """
SELECT w.number, n.nspname, c.relname, b.typnamespace = 'pg_catalog'::regnamespace
  FROM unnest(%(tables)s::text[], %(columns)s::text[]) WITH ORDINALITY AS w(table_name, column_name, number)
  JOIN pg_class c ON c.oid = to_regclass(w.table_name)
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
"""
_ROWS = (
    "SELECT {number}, q.key FROM "
    "(SELECT ({key})::text AS key FROM {table} o WHERE {compared} = %(name)s LIMIT %(limit)s) q"
)
_TIMEOUTS = {"lock_timeout": "5s"}


class Patience(NamedTuple):
    """How long somebody waits for tables without an index."""

    each: timedelta
    all: timedelta | None = None
    """After that no other table is asked."""


PATIENCE = Patience(timedelta(seconds=30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Rows of one column that name a file."""

    source: str
    database: str
    keys: tuple[str | None, ...]
    """A few primary keys, as the ledger has them; None where the table has none."""
    more: bool
    """Whether there are others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A column that could not be asked, and why."""

    source: str
    database: str
    error: str


def rows_naming(
    using: str,
    columns: Iterable[FileColumn],
    name: str,
    limit: int,
    patience: Patience = PATIENCE,
) -> Iterator[Named | Unread]:
    """Ask all columns in one statement; where that fails, one after the other, to know which does not answer.

    A large table without an index is read through, as long as `patience` lasts.
    """
    columns = list(columns)
    end = time.monotonic() + patience.all.total_seconds() if patience.all is not None else None
    try:
        with transaction.atomic(using=using):
            statements = _statements(using, columns)
            found = _keys(using, statements.values(), name, limit + 1, patience.each)
    except DatabaseError as error:
        if len(columns) > 1:
            for column in columns:
                if end is not None and time.monotonic() > end:
                    yield Unread(source=column.source, database=using, error="not asked, others took too long")
                else:
                    yield from rows_naming(using, [column], name, limit, patience)
            return
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        yield from (Unread(source=column.source, database=using, error=text) for column in columns)
        return
    for number, keys in found.items():
        source = columns[number - 1].source
        yield Named(source=source, database=using, keys=tuple(keys[:limit]), more=len(keys) > limit)


def _statements(using: str, columns: list[FileColumn]) -> dict[int, str]:
    """Return what to ask of each column that is there, by its number."""
    values = {"tables": [column.table for column in columns], "columns": [column.column for column in columns]}
    return {
        number: _ROWS.format(
            number=number,
            key=sql.literal_percent(
                key_as_text([f"concat(o.{sql.quote_identifier(part)})" for part in columns[number - 1].primary_key])
            ),
            table=sql.literal_percent(sql.qualified(schema, table)),
            compared=sql.literal_percent(_compared(columns[number - 1], known_type)),
        )
        for number, schema, table, known_type in sql.fetch(using, _PLACES, values)
    }


def _compared(column: FileColumn, known_type: bool) -> str:
    quoted = f"o.{sql.quote_identifier(column.column)}"
    return quoted if known_type else f"concat({quoted})"


def _keys(
    using: str, statements: Iterable[str], name: str, limit: int, patience: timedelta
) -> dict[int, list[str | None]]:
    found: dict[int, list[str | None]] = {}
    statement = " UNION ALL ".join(statements)
    if not statement:
        return found
    # What a policy would hide is an error, not a silence.
    timeout = sql.milliseconds(patience.total_seconds())
    sql.set_local(using, row_security="off", **_TIMEOUTS, statement_timeout=timeout)
    for number, key in sql.fetch(using, statement, {"name": name, "limit": limit}):
        found.setdefault(number, []).append(key)
    return dict(sorted(found.items()))
