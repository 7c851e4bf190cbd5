"""Which rows name a file, for people: a few keys of each column, and no word of a column that does not answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import DatabaseError, transaction

from pgcleanup import sql
from pgcleanup.columns import FileColumn
from pgcleanup.triggers.render import key_as_text

# No row where the table or the column is not there: models can be ahead of the database. As in the reference
# check, an operator of a type of somebody's own is not called.
_PLACE = """
SELECT n.nspname, c.relname, b.typnamespace = 'pg_catalog'::regnamespace
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
 WHERE c.oid = to_regclass(%(table)s)
"""
_ROWS = "SELECT {key} FROM {table} o WHERE {compared} = %(name)s LIMIT %(limit)s"
PATIENCE = timedelta(seconds=30)
_TIMEOUTS = {"lock_timeout": "5s"}


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
    using: str, columns: Iterable[FileColumn], name: str, limit: int, patience: timedelta = PATIENCE
) -> Iterator[Named | Unread]:
    """Ask each column, one after the other. A large table without an index is read through, as long as `patience`."""
    for column in columns:
        try:
            with transaction.atomic(using=using):
                found = _keys(using, column, name, limit + 1, patience)
        except DatabaseError as error:
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            yield Unread(source=column.source, database=using, error=text)
            continue
        if found:
            yield Named(source=column.source, database=using, keys=tuple(found[:limit]), more=len(found) > limit)


def _keys(using: str, column: FileColumn, name: str, limit: int, patience: timedelta) -> list[str | None]:
    place = sql.fetch(using, _PLACE, {"table": column.table, "column": column.column})
    if not place:
        return []
    schema, table, known_type = place[0]
    quoted = f"o.{sql.quote_identifier(column.column)}"
    statement = _ROWS.format(
        key=sql.literal_percent(
            key_as_text([f"concat(o.{sql.quote_identifier(part)})" for part in column.primary_key])
        ),
        table=sql.literal_percent(sql.qualified(schema, table)),
        compared=sql.literal_percent(quoted if known_type else f"concat({quoted})"),
    )
    # What a policy would hide is an error, not a silence.
    timeout = sql.milliseconds(patience.total_seconds())
    sql.set_local(using, row_security="off", **_TIMEOUTS, statement_timeout=timeout)
    return [key for (key,) in sql.fetch(using, statement, {"name": name, "limit": limit})]
