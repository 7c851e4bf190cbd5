"""The columns that have no index: each check reads their whole table."""

from __future__ import annotations

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.references.places import places

LARGE_TABLE_BYTES = 100 * 1024 * 1024  # a scan of less is not worth waiting for

SIZE_LOCK_TIMEOUT = "2s"

# A column whose whole table must be read for each check, and whose table is large.
_SCANNED = """
SELECT w.i, greatest(pg_relation_size(c.oid)::numeric,
                     (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t)) AS bytes
  FROM unnest(%(tables)s::text[], %(columns)s::text[]) WITH ORDINALITY AS w(quoted, attname, i)
  JOIN pg_class c ON c.oid = to_regclass(w.quoted)::oid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped
 WHERE NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indpred IS NULL
                                             AND x.indkey[0] = a.attnum)
"""


def columns_scanned(using: str, columns: FileColumns) -> list[tuple[FileColumn, int]]:
    """Return the columns that each check must read a whole large table for, with its size in bytes.

    A table's size cannot be had while somebody has it locked: waits a little, then raises DatabaseError.
    """
    with drain_transaction(using, lock_timeout=SIZE_LOCK_TIMEOUT):
        rows = sql.fetch(using, _SCANNED, places(columns))
    return [(columns[index - 1], int(size)) for index, size in rows if size >= LARGE_TABLE_BYTES]
