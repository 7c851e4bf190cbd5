"""Which tables with file columns this role may not read, and what their owner types to allow it."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from django.db import DatabaseError, transaction
from psycopg.errors import InsufficientPrivilege

from pgcleanup import sql
from pgcleanup.columns import FileColumns
from pgcleanup.references.places import places

# The check reads the column alone, so a right on that is enough. A catalog's question, without a lock on any table.
_FORBIDDEN = """
SELECT DISTINCT current_user::text, n.nspname, c.relname
  FROM unnest(%(tables)s::text[], %(columns)s::text[]) AS w(quoted, attname)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.quoted)::oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped
 WHERE NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
 ORDER BY 2, 3
"""


class Forbidden(NamedTuple):
    """Tables that a role may not read."""

    role: str
    tables: tuple[str, ...]
    """Quoted, sorted."""

    @property
    def grant(self) -> str:
        """What to type, and as whom."""
        return f"As the tables' owner: GRANT SELECT ON {', '.join(self.tables)} TO {sql.quote_identifier(self.role)};"


def forbidden(using: str, columns: FileColumns) -> Forbidden | None:
    """Return the tables of these columns that this role may not read; None where it may read them all."""
    rows = sql.fetch(using, _FORBIDDEN, places(columns)) if columns else []
    return Forbidden(rows[0][0], tuple(sql.qualified(*row[1:]) for row in rows)) if rows else None


def grant_against(using: str, columns: FileColumns, error: DatabaseError) -> str:
    """Return what follows on the text of a check's error: the GRANT that it is for want of, if it is."""
    if not isinstance(error.__cause__, InsufficientPrivilege):
        return ""
    found = None
    # The error is what is to be told.
    with suppress(DatabaseError), transaction.atomic(using=using):
        found = forbidden(using, columns)
    return f". {found.grant}" if found else ""
