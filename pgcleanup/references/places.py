"""Where the columns are in the database, and their names in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns

# Operators and functions are resolved by the types of their arguments, and an exact match in any schema of the
# search_path comes before one that takes a conversion: whoever may create objects there could have theirs run by us.
# So what is compared has one type, and functions that take any type are named with their schema. (unnest() of
# several arrays is PostgreSQL's own by its grammar, and may not be.)

# Which tables there are at this moment. Models can be ahead of the database. The last two values tell whether the type
# of the column is PostgreSQL's own, since others can bring casts and operators, and whether it pads names with blanks.
# They are NULL where the table has no such column.
TABLES = """
SELECT w.i, n.nspname, c.relname,
       b.typnamespace = 'pg_catalog'::regnamespace::oid, b.oid = 'pg_catalog.bpchar'::regtype::oid
  FROM unnest(%(tables)s::text[], %(columns)s::text[]) WITH ORDINALITY AS w(quoted, attname, i)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.quoted)::oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0::oid), t.oid)
"""
PRESENT = f"{TABLES} WHERE a.attnum IS NOT NULL"

# Whether a `migrate` of this database has seen a column that holds names of these storages.
_KNOWS = """
SELECT EXISTS (SELECT FROM file_deletion_column
                WHERE table_name IS NOT NULL AND (storage_key IS NULL OR storage_key = ANY (%s)))
"""


def present(using: str, columns: FileColumns) -> bool:
    """Whether this database has any of the columns."""
    return bool(sql.fetch(using, PRESENT, places(columns)))


def concerns(using: str, columns: FileColumns, keys: Iterable[str]) -> bool:
    """Whether this database has a table of the columns, as they are now or as its last `migrate` left them."""
    if sql.fetch(using, TABLES, places(columns)):
        return True
    if not sql.fetch(using, "SELECT to_regclass('file_deletion_column') IS NOT NULL")[0][0]:
        return False
    return bool(sql.fetch(using, _KNOWS, [list(keys)])[0][0])


def places(columns: Iterable[FileColumn]) -> dict[str, list[str]]:
    """Return what `TABLES` and `PRESENT` take."""
    columns = list(columns)
    return {"tables": [column.table for column in columns], "columns": [column.column for column in columns]}


def rendered(branch: str, column: FileColumn, schema: str, table: str, known_type: bool, padded: bool = False) -> str:
    """Return the SQL with the names of one column that is present; of a padded one, `{compared}` is without blanks."""
    name = sql.literal_percent(sql.quote_identifier(column.column))
    return branch.format(
        source=sql.literal_percent(sql.quote_literal(column.source)),
        column=name,
        # By a cast or an operator of its type the owner of a table could have code run as the drain. concat()
        # calls the type's output function alone, and no index serves it.
        compared=name if known_type else f"pg_catalog.concat({name})",
        table=sql.literal_percent(sql.qualified(schema, table)),
    )
