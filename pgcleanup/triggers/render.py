"""File columns of one table → the SQL of its record functions and triggers. Decides nothing, runs nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from pgcleanup import sql, templates

LEDGER = "pending_file_deletion"
PREFIX = "pgcleanup_"
_MAX_IDENTIFIER_BYTES = 63
# Stands for the dollar tag until the rest is rendered. PostgreSQL has no NUL in any name.
_TAG = "\0"


class Kind(str, Enum):
    """A record function; the value is the part of its name that tells it."""

    ROW = "row"
    DELETE = "del"
    TRUNCATE = "trunc"


_TEMPLATES = {
    Kind.ROW: "record_row.v1.sql",
    Kind.DELETE: "record_delete.v1.sql",
    Kind.TRUNCATE: "record_truncate.v1.sql",
}
_FIND_COLUMNS = "find_columns.v1.sql"
_NOTIFY = "notify.v1.sql"
_RECORD = "record.v1.sql"
# What of it inserts, by the place in the function. A TRUNCATE has a way of its own.
_INSERTS = {
    Kind.ROW: {"record": "insert_row.v1.sql"},
    Kind.DELETE: {"record": "insert_deleted.v1.sql", "record_moved": "insert_moved.v1.sql"},
    Kind.TRUNCATE: {},
}


class Form(Enum):
    """How a table's writes reach the functions."""

    PLAIN = "plain"  # UPDATE by row, DELETE by statement
    BY_ROW = "by row"  # partitions and inheritance: a statement trigger misses DML aimed at a child
    PARTITIONED = "partitioned"  # by row, and PostgreSQL clones the trigger to the partitions
    FOREIGN = "foreign"  # by row, no TRUNCATE before PostgreSQL 16


class Attribute(NamedTuple):
    """A column as the catalog has it now."""

    name: str
    number: int
    type_oid: int
    source: str = ""  # of a file column; empty for a part of the primary key


@dataclass(frozen=True, slots=True)
class Table:
    """A table to record, with the columns that it really has."""

    oid: int
    schema: str
    name: str
    form: Form
    file_columns: tuple[Attribute, ...]
    primary_key: tuple[Attribute, ...]
    owner: str = ""
    has_clone: bool = False
    """A partition whose row trigger is, or will be, cloned from its root."""
    recorded_by_clone: tuple[Attribute, ...] = ()
    """File columns of a partition that its root's row trigger records already; it has a TRUNCATE trigger of its own."""
    functions_of: tuple[str, str] | None = None
    """Schema and name of another table whose functions it shares: a partition those of its root."""

    def columns_for(self, kind: Kind) -> tuple[Attribute, ...]:
        """Return the file columns that a function records."""
        return (*self.recorded_by_clone, *self.file_columns) if kind is Kind.TRUNCATE else self.file_columns

    @property
    def quoted(self) -> str:
        """The name as SQL."""
        return sql.qualified(self.schema, self.name)

    @property
    def label(self) -> str:
        """The name as people read it."""
        return f"{self.schema}.{self.name}"


def function_name(kind: Kind, target: Table) -> str:
    """Name a table's function: readable, cut to what PostgreSQL keeps, unique by a digest of schema and table."""
    return _function_name(kind, *(target.functions_of or (target.schema, target.name)))


@lru_cache(maxsize=4096)  # as the other one for every sync and drain: they compare all functions
def _function_name(kind: Kind, schema: str, table: str) -> str:
    digest = _table_digest(schema, table)
    room = _MAX_IDENTIFIER_BYTES - len(f"{PREFIX}{kind.value}__{digest}")
    readable = table.encode()[:room].decode(errors="ignore")
    return f"{PREFIX}{kind.value}_{readable}_{digest}"


def trigger_name(kind: Kind, table: Table) -> str:
    """Name the trigger. A partitioned table's row trigger, cloned to the partitions, is unique to its root."""
    if kind is Kind.ROW and table.form is Form.PARTITIONED:
        return f"{PREFIX}row_{_table_digest(table.schema, table.name)}"
    return f"{PREFIX}{kind.value}"


def trigger_kinds(table: Table, server_version: int) -> list[Kind]:
    """Return the triggers that a table needs itself."""
    kinds = [] if table.has_clone else [Kind.ROW]
    if table.form is Form.PLAIN:
        kinds.append(Kind.DELETE)
    if table.form is not Form.FOREIGN or server_version >= 160000:
        kinds.append(Kind.TRUNCATE)
    return kinds


def render_function(kind: Kind, table: Table, ledger_schema: str) -> str:
    """Return the `CREATE OR REPLACE FUNCTION` of one of the table's record functions."""
    return _render(_TEMPLATES[kind], kind, table, ledger_schema)


def render_idle_function(function: str) -> str:
    """Return a function of that (qualified, quoted) name that does nothing."""
    return templates.render("idle.v1.sql", function=function, tag="$pgcleanup$")


def render_trigger(kind: Kind, table: Table, function: str) -> str:
    """Return the `CREATE OR REPLACE TRIGGER` that fires `function` (qualified, quoted)."""
    name = sql.quote_identifier(trigger_name(kind, table))
    timing = {
        Kind.ROW: "AFTER UPDATE" if table.form is Form.PLAIN else "AFTER UPDATE OR DELETE",
        Kind.DELETE: "AFTER DELETE",
        Kind.TRUNCATE: "BEFORE TRUNCATE",
    }[kind]
    level = {
        Kind.ROW: "FOR EACH ROW",
        Kind.DELETE: "REFERENCING OLD TABLE AS _old_rows FOR EACH STATEMENT",
        Kind.TRUNCATE: "FOR EACH STATEMENT",
    }[kind]
    # Neither UPDATE OF nor WHEN: a trigger bound to a column makes the user's RemoveField fail, and
    # UPDATE OF misses what another BEFORE trigger changed.
    return f"CREATE OR REPLACE TRIGGER {name} {timing} ON {table.quoted} {level} EXECUTE FUNCTION {function}()"


def trigger_type(kind: Kind, table: Table) -> int:
    """Return `pg_trigger.tgtype` of the trigger as rendered (pg_trigger.h: row 1, before 2, delete 8, update 16,
    truncate 32)."""
    if kind is Kind.ROW:
        return 17 if table.form is Form.PLAIN else 25
    return 8 if kind is Kind.DELETE else 34


def template_names() -> list[str]:
    """Return the templates that record functions are rendered from."""
    return sorted({name for kind in Kind for name in _parts(kind)})


def digest(kind: Kind, table: Table, ledger_schema: str, *, portable: bool = False) -> str:
    """Fingerprint all that a function is rendered from, without rendering it: whoever changes what this module
    makes of the same template and columns gives the template a new version.

    The columns' types count: when one changes, sessions that have the function's old plan cached must get
    a new one, and replacing the function is what makes them. Only the names count in a `portable` one.
    """
    file_columns = table.columns_for(kind)
    columns: tuple[object, ...] = file_columns, table.primary_key
    if portable:
        columns = tuple([(column.name, column.source) for column in (*file_columns, *table.primary_key)])
    return _digest(kind, ledger_schema, function_name(kind, table), columns)


@lru_cache(maxsize=4096)
def _digest(kind: Kind, ledger_schema: str, function: str, columns: tuple[object, ...]) -> str:
    versions = [templates.digest(name) for name in _parts(kind)]
    return hashlib.sha256(repr((versions, ledger_schema, function, *columns)).encode()).hexdigest()[:40]


def body_md5(function_sql: str) -> str:
    """Return the MD5 of the text between the dollar tags, which the catalog keeps as `prosrc`."""
    tag = function_sql[function_sql.index("$pgcleanup") :].split(maxsplit=1)[0]
    return hashlib.md5(function_sql.split(tag)[1].encode(), usedforsecurity=False).hexdigest()


def _table_digest(schema: str, table: str) -> str:
    return hashlib.sha256(f"{schema}.{table}".encode()).hexdigest()[:10]


def _render(template: str, kind: Kind, table: Table, ledger_schema: str) -> str:
    file_columns = table.columns_for(kind)
    columns = (*file_columns, *table.primary_key)
    values = {
        "function": sql.qualified(ledger_schema, function_name(kind, table)),
        "tag": _TAG,
        "ledger": sql.qualified(ledger_schema, LEDGER),
        "ledger_name": sql.qualified(ledger_schema, LEDGER),
        "ledger_schema": sql.quote_identifier(ledger_schema),
        "all_sources": _array(column.source for column in columns),
        "columns": _array(column.name for column in columns),
        "attnums": "'{" + ",".join(str(column.number) for column in columns) + "}'::int2[]",
        "old_names": ", ".join(_concats("OLD", file_columns)),
        "new_names": ", ".join(_concats("NEW", file_columns)),
        "primary_key": key_as_text(_concats("OLD", table.primary_key)),
        "moved_primary_key": key_as_text([f"_old[{i + 1}]" for i in range(len(file_columns), len(columns))]),
        "primary_key_of_row": key_as_text(_concats("o", table.primary_key)),
        "columns_of_row": ", ".join(f"o.{sql.quote_identifier(column.name)}" for column in columns),
        "values_of_row": _sourced(file_columns, _concats("o", file_columns)),
        "old_and_new": _sourced(file_columns, [f"_old[{i + 1}], _new[{i + 1}]" for i in range(len(file_columns))]),
        "primary_key_count": max(len(table.primary_key), 1),
        "key_prefix": "json_build_array(" if len(table.primary_key) > 1 else "",
        "key_suffix": ")::text" if len(table.primary_key) > 1 else "",
    }
    values["notify"] = templates.render(_NOTIFY).strip()
    values["find_columns"] = templates.render(_FIND_COLUMNS, **values).strip()
    for place, insert in _INSERTS[kind].items():
        values[place] = templates.render(_RECORD, **values, insert=templates.render(insert, **values).strip()).strip()
    return _with_free_tag(templates.render(template, **values))


def _with_free_tag(rendered: str) -> str:
    """Choose a dollar tag that occurs nowhere else in the text: a column may be named like one."""
    tag = "$pgcleanup$"
    number = 0
    while tag in rendered:
        number += 1
        tag = f"$pgcleanup{number}$"
    return rendered.replace(_TAG, tag)


def _parts(kind: Kind) -> list[str]:
    """Return the templates that make a function."""
    return [_TEMPLATES[kind], _FIND_COLUMNS, _NOTIFY, *([_RECORD] if _INSERTS[kind] else []), *_INSERTS[kind].values()]


def _array(values: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(map(sql.quote_literal, values)) + "]::text[]"


def _concats(row: str, columns: Sequence[Attribute]) -> list[str]:
    # The column's own collation may take names for equal that are two files', or need a locale that is gone.
    return [f'concat({row}.{sql.quote_identifier(column.name)}) COLLATE pg_catalog."C"' for column in columns]


def _sourced(columns: Sequence[Attribute], values: Sequence[str]) -> str:
    return ", ".join(f"({sql.quote_literal(c.source)}, {value})" for c, value in zip(columns, values, strict=True))


def key_as_text(parts: list[str]) -> str:
    """Return the primary key as text: several parts as a JSON array of strings, none as NULL."""
    if not parts:
        return "NULL"
    return parts[0] if len(parts) == 1 else f"pg_catalog.json_build_array({', '.join(parts)})::text"
