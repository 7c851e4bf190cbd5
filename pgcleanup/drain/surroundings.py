"""What a run has to know before it starts: what the database has, which columns, which other databases."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections

from pgcleanup.columns import FileColumns, find_file_columns
from pgcleanup.drain.elsewhere import Elsewhere
from pgcleanup.drain.preflight import preflight
from pgcleanup.triggers import Inspection
from pgcleanup.triggers.dropped import with_dropped


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Holds for as long as the process runs the same code with the same settings: the check of each batch compares
    the columns with the database's, whatever was found here."""

    inspection: Inspection
    columns: FileColumns
    elsewhere: Elsewhere
    unrecorded: frozenset[str]
    """Storages whose files may be named by rows that no trigger records."""


def look_around(using: str, *, inside_transaction: bool = False, dry_run: bool = False) -> Surroundings:
    """Find it all out, with some twenty queries.

    Raises:
        DrainRefused: nothing may be deleted, or something that a drain needs is missing.
    """
    _renew_connections()
    inspection = preflight(using, inside_transaction=inside_transaction, dry_run=dry_run)
    columns = with_dropped(find_file_columns(using), inspection.known)
    elsewhere = Elsewhere(using, columns, inside_transaction=inside_transaction)
    return Surroundings(inspection, columns, elsewhere, unrecorded_storages(inspection, columns))


def unrecorded_storages(inspection: Inspection, columns: FileColumns) -> frozenset[str]:
    """Return the storages whose files may be named by rows that no trigger records."""
    broken = {trigger.table.oid for trigger in inspection.plan.incomplete}
    keys = {column.storage_key for column in columns.stored if column.storage_key is not None}
    found: set[str] = set()
    for column in columns:
        relation = inspection.catalog.by_quoted_name.get(column.table)
        if relation is None:
            continue
        # Names of the other models on its table are recorded as if they were its own.
        places = set(column.also)
        if not column.recorded or relation.oid in broken:
            places.add(column.storage_key)
        found |= keys if None in places else keys & places
    return frozenset(found)


def _renew_connections() -> None:
    """Close the connections that have died since this process used them last, for the next query to open new ones.

    Django does so at the end of a request. A worker that drains again and again has none: after a restart of
    a database server each of its drains would fail.
    """
    for alias in connections:
        connection = connections[alias]
        if connection.connection is None or connection.in_atomic_block or not connection.get_autocommit():
            continue
        if not connection.is_usable():
            connection.close()
