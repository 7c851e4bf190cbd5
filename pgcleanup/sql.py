"""Quoting, and the short transactions that everything here runs its SQL in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connections, transaction

_QUOTED_NAME = re.compile(r'"(?:[^"]|"")+"(?:\."(?:[^"]|"")+")?')


def quote_identifier(name: str) -> str:
    """Quote one identifier for PostgreSQL. The one place where identifiers are quoted."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Quote `name` in `schema`."""
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def quote_literal(value: str) -> str:
    """Quote a string for SQL text that a placeholder cannot reach, such as a function body.

    A backslash makes it an `E''` string, as PostgreSQL's own quote_literal() does: a plain one would
    mean something else in a session with standard_conforming_strings = off.
    """
    escaped = value.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in value else f"'{escaped}'"


def django_quoted(name: str, using: str) -> str | None:
    """Quote a `db_table` or `db_column` as Django quotes it, or return None if that is no valid SQL name.

    Django leaves a name alone that is already in quotes, which is how people reach another schema
    (`app"."doc`) or a name with quotes in it.
    """
    quoted: str = connections[using].ops.quote_name(name)
    return quoted if _QUOTED_NAME.fullmatch(quoted) else None


def unquoted(quoted: str) -> str:
    """Return the name that the catalog holds for an identifier in quotes."""
    # PostgreSQL cuts what is longer than 63 bytes, in silence; Django's check counts characters.
    return quoted[1:-1].replace('""', '"').encode()[:63].decode(errors="ignore")


def literal_percent(sql: str) -> str:
    """Escape percent signs in rendered identifiers, for a statement that also has placeholders."""
    return sql.replace("%", "%%")


def text_array(values: Iterable[str | None]) -> str:
    """Return a long list as the text of a PostgreSQL array, to be bound as one value and cast: `%s::text[]`.

    psycopg writes a list element by element in Python: for a drain of small files that took as long as
    everything else together (`make bench`).
    """
    values = list(values)
    if None not in values:
        # Nearly always there is nothing to escape, which one look at the whole text tells.
        text = '","'.join(values)  # type: ignore[arg-type]
        if "\\" not in text and text.count('"') == 2 * (len(values) - 1) and values:
            return f'{{"{text}"}}'
    return "{" + ",".join("NULL" if value is None else f'"{_escaped(value)}"' for value in values) + "}"


def integer_array(values: Iterable[int | None]) -> str:
    """Return a long list of numbers as `text_array` does, to be cast: `%s::bigint[]`."""
    return "{" + ",".join(map(str, values)).replace("None", "NULL") + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def fetch(using: str, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Run one statement on the connection `using` and return all its rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall() if cursor.description else []
    return rows if settings.USE_TZ else [tuple(_aware(value, using) for value in row) for row in rows]


def _aware(value: Any, using: str) -> Any:
    """Return a time with its zone: with USE_TZ = False Django takes it off, and leaves the session's local time."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=ZoneInfo(connections[using].timezone_name))
    return value


def execute(using: str, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
    """Run one statement on the connection `using` and return the number of rows it touched."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        rows: int = cursor.rowcount
        return rows


@contextmanager
def short_transaction(using: str, **parameters: str) -> Iterator[None]:
    """Run the block in one READ COMMITTED transaction with these server parameters set for it alone.

    Commits on leaving, rolls back on an exception. Inside a transaction that is already open it is a
    savepoint, the isolation level stays what it is, and the parameters hold until that one ends.

    READ COMMITTED is forced because a statement of ours must see what was committed before it began:
    under REPEATABLE READ the reference check would look at the past.
    """
    nested = connections[using].in_atomic_block
    with transaction.atomic(using=using):
        if not nested:
            execute(using, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if parameters:
            set_local(using, **parameters)
        yield


def set_local(using: str, **parameters: str) -> None:
    """Set server parameters until the end of the open transaction."""
    calls = ", ".join("pg_catalog.set_config(%s, %s, true)" for _ in parameters)
    execute(using, f"SELECT {calls}", [part for item in parameters.items() for part in item])


def milliseconds(seconds: float) -> str:
    """Return a duration the way server parameters take it; at least 1 ms, since 0 means without end there."""
    return f"{max(int(seconds * 1000), 1)}ms"
