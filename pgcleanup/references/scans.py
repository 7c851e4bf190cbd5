"""The columns that have no index: each check reads their whole table."""

from __future__ import annotations

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.references.places import places

LARGE_TABLE_BYTES = 100 * 1024 * 1024  # a scan of less is not worth waiting for

SIZE_LOCK_TIMEOUT = "2s"

# Each column that is there, and how large its table is where no index spares a check to read all of it.
_READ = """
SELECT w.i,
       CASE WHEN NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indpred IS NULL
                                                      AND x.indkey[0] = a.attnum)
            THEN greatest(pg_relation_size(c.oid)::numeric,
                          (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t))
       END AS bytes
  FROM unnest(%(tables)s::text[], %(columns)s::text[]) WITH ORDINALITY AS w(quoted, attname, i)
  JOIN pg_class c ON c.oid = to_regclass(w.quoted)::oid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped
 ORDER BY w.i
"""


def bytes_read(using: str, columns: FileColumns) -> list[tuple[FileColumn, int | None]]:
    """Return the columns that are in the database, with the bytes that each check reads of their tables.

    None where an index tells. A table's size cannot be had while somebody has it locked: waits a little, then raises
    DatabaseError.
    """
    with drain_transaction(using, lock_timeout=SIZE_LOCK_TIMEOUT):
        rows = sql.fetch(using, _READ, places(columns))
    return [(columns[index - 1], None if size is None else int(size)) for index, size in rows]


def columns_scanned(using: str, columns: FileColumns) -> list[tuple[FileColumn, int]]:
    """Return the columns that each check must read a whole large table for, with its size; raises as `bytes_read`."""
    return [(column, size) for column, size in bytes_read(using, columns) if size is not None and is_large(size)]


def is_large(size: int) -> bool:
    """Whether a table of so many bytes is too large to be read for every few names."""
    return size >= LARGE_TABLE_BYTES
