"""What this process's database role may do with the ledger, and what its owner types to allow it."""

from __future__ import annotations

from contextlib import suppress

from django.db import DatabaseError, Error, transaction
from psycopg.errors import InsufficientPrivilege

from pgcleanup import references, sql
from pgcleanup.columns import FileColumns
from pgcleanup.models import (
    FileDeletionColumn,
    FileDeletionControl,
    FileDeletionStamp,
    PendingFileDeletion,
    SettledFileDeletion,
)
from pgcleanup.status.words import ended, listed

_MODELS = (PendingFileDeletion, SettledFileDeletion, FileDeletionStamp, FileDeletionColumn, FileDeletionControl)
TABLES = [model._meta.db_table for model in _MODELS]
CHANGED = ["attempts", "retry_at", "exhausted_at", "cancelled_at"]
"""What `retry` and `cancel` write."""

_LACKING = """
SELECT current_user::text,
       ARRAY(SELECT name FROM unnest(%(tables)s::text[]) AS t(name) WHERE to_regclass(name) IS NULL),
       ARRAY(SELECT name FROM unnest(%(tables)s::text[]) AS t(name)
              WHERE NOT has_table_privilege(to_regclass(name), 'SELECT'))
"""
_MAY_CHANGE = """
SELECT current_user::text, bool_and(has_column_privilege(to_regclass(%(table)s), name, 'UPDATE'))
  FROM unnest(%(columns)s::text[]) AS c(name)
"""
# What a drain does and nothing else: a role that only looks is not to be told of a drain's rights.
_DRAINS = "SELECT has_table_privilege(to_regclass(%(table)s), 'DELETE')"


def unreadable(using: str) -> tuple[str, str] | None:
    """Return what of the ledger this role cannot read, in a sentence, and what mends it; None where it reads all."""
    role, absent, forbidden = sql.fetch(using, _LACKING, {"tables": TABLES})[0]
    if absent:
        return (
            f'Database "{using}" has no {listed(absent)} that the role {role} can see.',
            f"Run: manage.py migrate pgcleanup --database {using}",
        )
    if forbidden:
        return (
            f'In database "{using}" the role {role} may not read {listed(forbidden)}.',
            f"As the tables' owner: GRANT SELECT ON {', '.join(TABLES)} TO {sql.quote_identifier(role)};",
        )
    return None


def reported(using: str, error: DatabaseError) -> str:
    """Return what the database says, and what mends it where this role may not read the ledger."""
    text = str(error).strip()
    found = None
    if isinstance(error.__cause__, InsufficientPrivilege):
        with suppress(Error), transaction.atomic(using=using):
            found = unreadable(using)
    return f"{ended(text)} {found[1]}" if found is not None else text


def unchangeable(using: str) -> tuple[str, str] | None:
    """Return, as `unreadable` does, that this role can neither retry nor cancel."""
    table = PendingFileDeletion._meta.db_table
    role, may = sql.fetch(using, _MAY_CHANGE, {"table": table, "columns": CHANGED})[0]
    if may:
        return None
    grant = f"GRANT UPDATE ({', '.join(CHANGED)}) ON {table} TO {sql.quote_identifier(role)};"
    return f'In database "{using}" the role {role} may not change {table}.', f"As its owner: {grant}"


def uncheckable(using: str, columns: FileColumns) -> tuple[str, str] | None:
    """Return, as `unreadable` does, the tables with file columns that a drain of this role cannot check names in."""
    keys = {column.storage_key for column in columns if column.recorded and column.storage_key is not None}
    checked = FileColumns(column for key in keys for column in columns.naming(key))
    found = references.forbidden(using, checked)
    if found is None or not sql.fetch(using, _DRAINS, {"table": PendingFileDeletion._meta.db_table})[0][0]:
        return None
    return (
        f'In database "{using}" the role {found.role} may not read {listed(found.tables)}, which may name files, so '
        "its drains delete nothing of those storages.",
        found.grant,
    )
