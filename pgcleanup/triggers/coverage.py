"""The column table: which file columns the database knows of, and what their names mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.conf import settings
from pgcleanup.triggers.catalog import COLUMN_TABLE, Catalog, Ledger
from pgcleanup.triggers.install import LOCK
from pgcleanup.triggers.render import LEDGER

_CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
    source text PRIMARY KEY,
    table_name regclass,    -- NULL: the model has no table in this database
    attnum smallint,
    storage_key text        -- NULL: may name a file of any storage
)
"""
_READ = "SELECT source, table_name::oid::bigint, attnum, storage_key FROM {table}"
# Of a row k of the column table. PostgreSQL remembers the numbers of columns that were dropped. One that is merely not
# there has another number since a dump and restore, or its app left INSTALLED_APPS, and its rows, which nobody reads
# any more, name files.
HAS_VANISHED = """
(k.table_name IS NOT NULL
 AND (NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.table_name)
      OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = k.table_name AND a.attnum = k.attnum AND a.attisdropped)))
"""
_VANISHED = f"SELECT k.source FROM {{table}} k WHERE {HAS_VANISHED}"  # noqa: S608 -- only constants
# The row stays as a note of where the files are: entries may wait, or be committed later by a transaction that wrote
# them under the old label. Attribute number 0 is no column's.
_DROP = "UPDATE {table} SET table_name = NULL, attnum = 0 WHERE source = ANY(%s) AND storage_key IS NOT NULL"
_DELETE = "DELETE FROM {table} WHERE source = ANY(%s) AND attnum IS DISTINCT FROM 0"
_FORGET = """
DELETE FROM {table} k WHERE k.attnum = 0 AND NOT EXISTS (SELECT FROM {ledger} p WHERE p.source = k.source)
"""
_WRITE = """
INSERT INTO {table} (source, table_name, attnum, storage_key)
SELECT * FROM unnest(%s::text[], %s::oid[], %s::smallint[], %s::text[])
ON CONFLICT (source) DO UPDATE
   SET table_name = excluded.table_name, attnum = excluded.attnum, storage_key = excluded.storage_key
"""
# unnest() of several arrays is syntax, which no search_path leads astray.
# Pending entries follow fields and models that were renamed. One statement: of a to b, and b to c, each entry
# makes one step.
_RENAME = """
UPDATE {ledger} p SET source = w.new
  FROM unnest(%s::text[], %s::text[]) AS w(old, new)
 WHERE p.source = w.old
"""


Place = tuple[int | None, int | None]
"""The oid of a table and the number of a column in it."""


class KnownColumn(NamedTuple):
    """A row of the column table."""

    source: str
    table_oid: int | None
    attnum: int | None
    storage_key: str | None

    @property
    def place(self) -> Place:
        """Where the column is, whatever it is called."""
        return self.table_oid, self.attnum

    @property
    def is_dropped(self) -> bool:
        """Whether the database has the column no more, and the row is a note of where its files are."""
        return self.attnum == 0


def needed_rows(columns: FileColumns, catalog: Catalog) -> list[KnownColumn]:
    """Return what the column table should hold."""
    return [_row(column, catalog) for column in columns]


def read_rows(using: str, ledger: Ledger) -> list[KnownColumn]:
    """Return what the column table holds; nothing where there is none."""
    if not ledger.has_column_table:
        return []
    return [KnownColumn(*row) for row in sql.fetch(using, _READ.format(table=_table(ledger)))]


def write_rows(using: str, ledger: Ledger, needed: list[KnownColumn], left: Iterable[KnownColumn] = ()) -> list[str]:
    """Make the column table hold exactly these rows, in one transaction; those in `left` stay as they are.

    A row that goes and one that comes for the same table and attribute number are a rename: the pending
    entries of the old source get the new one in that same transaction.

    Returns:
        The sources of the columns that the database has dropped since.
    """
    table, pending = _table(ledger), sql.qualified(ledger.schema, LEDGER)
    of_others = {row.source for row in left}
    needed = [row for row in needed if row.source not in of_others]
    with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
        sql.execute(using, LOCK)
        if not ledger.has_column_table:
            sql.execute(using, _CREATE.format(table=table))
        rows = (KnownColumn(*row) for row in sql.fetch(using, _READ.format(table=table)))
        known = [row for row in rows if row.source not in of_others]
        vanished = {source for (source,) in sql.fetch(using, _VANISHED.format(table=table))}
        moved = renames(known, needed, vanished)
        if moved:
            sql.execute(using, _RENAME.format(ledger=pending), [list(part) for part in zip(*moved, strict=True)])
        gone = {row.source for row in known if not row.is_dropped} - {row.source for row in needed}
        sql.execute(using, _FORGET.format(table=table, ledger=pending))
        sql.execute(using, _DROP.format(table=table), [sorted(gone & (vanished | {old for old, _ in moved}))])
        sql.execute(using, _DELETE.format(table=table), [sorted(gone)])
        if needed:
            sql.execute(using, _WRITE.format(table=table), [list(part) for part in zip(*needed, strict=True)])
    return sorted(gone & vanished)


def renames(
    known: Iterable[KnownColumn], needed: Iterable[KnownColumn], vanished: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return old and new source of each column that stayed where it was under another label.

    A chain of them begins with a label that is gone or another column's now, and ends with one that is new or whose
    column vanished, or where it began. Where a label has a lower number than before, it is the numbers that changed,
    in a dump and restore; a new column has a higher one.
    """
    before = {row.source: row.place for row in known if row.attnum}
    needed = list(needed)
    after = {row.place: row.source for row in needed if row.attnum}
    now = {row.source: row.place for row in needed}
    moved: set[tuple[str, str]] = set()
    for source, place in before.items():
        elsewhere = source in now and _is_another_column(place, now[source])
        if source in now and not elsewhere:
            continue
        chain = [source]
        # Two labels can have one place, a table being reached with its schema and without: no circles but whole ones.
        while (target := after.get(before.get(chain[-1], (None, None)))) and target not in chain:
            chain.append(target)
        if target == source:
            chain.append(target)
        if len(chain) > 1 and (elsewhere or chain[-1] not in before or chain[-1] in vanished):
            moved |= set(pairwise(chain))
    return sorted(moved)


def _is_another_column(before: Place, now: Place) -> bool:
    """Whether a label's place shows that it is another column's now."""
    return now[1] is not None and (now[0] != before[0] or now[1] > (before[1] or 0))


def _row(column: FileColumn, catalog: Catalog) -> KnownColumn:
    relation = catalog.by_quoted_name.get(column.table)
    if relation is None or column.column not in relation.attributes:
        return KnownColumn(column.source, None, None, column.storage_key)
    return KnownColumn(column.source, relation.oid, relation.attributes[column.column][0], column.storage_key)


def _table(ledger: Ledger) -> str:
    return sql.qualified(ledger.schema, COLUMN_TABLE)
