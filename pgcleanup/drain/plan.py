"""How a drain would go about its work: in which batches, and what each reference check would read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pgcleanup import references
from pgcleanup.columns import FileColumn, find_file_columns
from pgcleanup.drain.run import BATCH_SIZE
from pgcleanup.drain.scans import WORTH_A_SCAN, index_statement
from pgcleanup.drain.store import find_stores


class ColumnPlan(NamedTuple):
    """How one column is asked about the names of a batch."""

    source: str
    bytes: int | None
    """What is read for it, once a batch; None where an index tells."""
    create_index: str | None
    """The statement that makes the index that would help; None where the table is small, or has one."""


class StoragePlan(NamedTuple):
    """How the files of one storage are dealt with."""

    label: str
    batch: int
    """Names that are claimed and checked together, at most."""
    at_once: int
    """Files that one call of the storage is about, at most."""
    columns: tuple[ColumnPlan, ...]


def plan(using: str) -> Iterator[StoragePlan]:
    """Yield the plan of each storage that can be set up. Asks the catalog, and reads no table.

    Raises:
        DatabaseError: somebody has a table locked, so that its size cannot be had.
    """
    columns = find_file_columns(using)
    plans = {column: _column_plan(column, size) for column, size in references.bytes_read(using, columns)}
    # As in `Run`: where one storage's checks read a large table, the batches of all are as large.
    batch = WORTH_A_SCAN if any(found.create_index for found in plans.values()) else BATCH_SIZE
    for key, store in find_stores(columns).items():
        asked = tuple(plans[column] for column in columns.naming(key) if column in plans)
        yield StoragePlan(store.label, batch, store.adapter.at_once, asked)


def _column_plan(column: FileColumn, size: int | None) -> ColumnPlan:
    helps = size is not None and references.is_large(size)
    return ColumnPlan(column.source, size, index_statement(column) if helps else None)
