"""Large tables without an index: names wait for company, so that a trickle does not scan them all day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import DatabaseError

from pgcleanup import references
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.conf import settings
from pgcleanup.drain.poison import is_about_the_check
from pgcleanup.ledger import claims
from pgcleanup.sql import quote_identifier

# So many names, or one that has waited for PGCLEANUP_SCAN_INTERVAL, are worth a scan; and so many go in one.
WORTH_A_SCAN = 10_000


@dataclass(frozen=True, slots=True)
class Scan:
    """A storage whose check must read a large table from end to end."""

    storage_key: str
    column: FileColumn
    bytes: int
    waiting: int
    """Names that wait for company; 0 where the scan is worth it now."""
    columns: tuple[FileColumn, ...]
    """All whose tables are read so."""

    @property
    def advice(self) -> str:
        """Say what waits and which index would help."""
        return (
            f"{self.column.source}: each check reads {self.bytes / 1024**2:,.0f} MB, so names wait up to "
            f"{settings.scan_interval} for company. An index helps: {index_statement(self.column)}"
        )


def index_statement(column: FileColumn) -> str:
    """Return the statement that makes the index; a hash index is a third of the size of a B-tree's here."""
    return f"CREATE INDEX CONCURRENTLY ON {column.table} USING hash ({quote_identifier(column.column)})"


def find_scans(using: str, columns: FileColumns, keys: list[str], grace: timedelta) -> list[Scan]:
    """Return the storages that need a scan of a large table, and how many names wait for it."""
    scans = []
    try:
        scanned = references.columns_scanned(using, columns)
    except DatabaseError as error:
        # The check will meet the same lock, and say whose files it cannot tell about.
        if is_about_the_check(error):
            return []
        raise
    for key in keys:
        mine = [(column, size) for column, size in scanned if column.storage_key in (key, None)]
        if mine:
            column, size = max(mine, key=lambda pair: pair[1])
            sources = [column.source for column in columns.stored if column.storage_key == key]
            names, overdue = claims.due(using, sources, grace, WORTH_A_SCAN)
            waits = names < WORTH_A_SCAN and overdue < settings.scan_interval
            read = tuple(column for column, _ in mine)
            scans.append(Scan(key, column, size, names if waits else 0, read))
    return scans
