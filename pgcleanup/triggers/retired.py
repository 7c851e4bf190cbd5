"""Labels that another column has by now: what is pending of the column that was dropped keeps to its own storage.

`RemoveField` and `AddField` of one name, or a `RenameField` to the name of a removed field, give the label of a dropped
column to one whose files are somewhere else. Looked up there, its names would be absent, and its files stay for ever;
or they would be the names of files that no row has let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgcleanup import sql
from pgcleanup.conf import settings
from pgcleanup.triggers.catalog import COLUMN_TABLE, Ledger
from pgcleanup.triggers.coverage import HAS_VANISHED, KnownColumn
from pgcleanup.triggers.install import LOCK, with_retries
from pgcleanup.triggers.render import LEDGER

# No field has one in its name.
_MARK = "@"

# A column is dropped where a note or PostgreSQL says so. One that is still there is the same one with other settings: a
# MEDIA_ROOT that moved took its files along, pending ones as well.
#
# Entries of the new column are none of this: they come after those that were recorded when the old one went.
_RETIRE = """
WITH old AS MATERIALIZED (
    SELECT k.source, k.storage_key, pg_catalog.concat(k.source, %(mark)s, pg_catalog.left(k.storage_key, 12)) AS retired
      FROM {columns} k
      JOIN unnest(%(sources)s::text[], %(keys)s::text[]) AS w(source, storage_key) ON w.source = k.source
     WHERE k.storage_key IS NOT NULL AND k.storage_key IS DISTINCT FROM w.storage_key
       AND (k.attnum = 0 OR {has_vanished})
), bounded AS MATERIALIZED (
    SELECT o.*, (SELECT max(d.id) FROM {ledger} d
                  WHERE d.operation = 'DROP' AND d.source IN (o.source, o.retired)) AS last
      FROM old o
), mine AS MATERIALIZED (
    SELECT p.id, o.retired, o.storage_key
      FROM bounded o
      JOIN {ledger} p ON p.source = o.source
     WHERE p.id <= coalesce(o.last, p.id)
       FOR UPDATE OF p {nowait}
), moved AS (
    UPDATE {ledger} p SET source = m.retired FROM mine m WHERE p.id = m.id
)
INSERT INTO {columns} (source, attnum, storage_key)
SELECT DISTINCT retired, 0, storage_key FROM mine
ON CONFLICT (source) DO NOTHING
"""


def label_of(source: str) -> str:
    """Return the label that the dropped column of a source had."""
    return source.partition(_MARK)[0]


def retire_taken(using: str, ledger: Ledger, known: Iterable[KnownColumn], needed: Iterable[KnownColumn]) -> None:
    """Give what is pending of dropped columns a source of its own, where columns elsewhere have their labels now.

    To be done before triggers of the new columns record anything. Raises DatabaseError where a drain holds entries.
    """
    keys = {row.source: row.storage_key for row in known}
    taken = {row.source: row.storage_key for row in needed if keys.get(row.source) not in (None, row.storage_key)}
    if not taken:
        return

    def retire() -> None:
        with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
            sql.execute(using, LOCK)
            _retire(using, ledger, taken)

    with_retries(using, retire)


def retire_at_once(using: str, ledger: Ledger, source: str, storage_key: str | None) -> None:
    """Do so for one column that a migration makes; in the open transaction, which waits for no drain."""
    _retire(using, ledger, {source: storage_key}, nowait="NOWAIT")


def _retire(using: str, ledger: Ledger, taken: Mapping[str, str | None], nowait: str = "") -> None:
    names = {"columns": COLUMN_TABLE, "ledger": LEDGER}
    tables = {part: sql.literal_percent(sql.qualified(ledger.schema, name)) for part, name in names.items()}
    parameters = {"sources": list(taken), "keys": list(taken.values()), "mark": _MARK}
    sql.execute(using, _RETIRE.format(nowait=nowait, has_vanished=HAS_VANISHED, **tables), parameters)
