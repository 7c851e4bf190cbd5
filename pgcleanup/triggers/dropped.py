"""Columns that the database dropped: their names still wait, and the column table notes where their files are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from django.conf import settings as django_settings
from django.core.files.storage import Storage, storages
from django.db import models

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns, is_left_alone
from pgcleanup.storage_keys import UNUSABLE, storage_key, unwrapped
from pgcleanup.triggers.coverage import KnownColumn
from pgcleanup.triggers.retired import label_of


class NoModel(models.Model):
    """Stands for the model that a dropped column had, which may be gone, too: nobody can listen to its signals."""

    class Meta:
        abstract = True


def with_dropped(columns: FileColumns, known: Iterable[KnownColumn]) -> FileColumns:
    """Return the columns, and those that were dropped while their names were waiting.

    A dropped one has no rows to ask. Its storage is that of another column, or one of STORAGES; where there
    is none of that key any more, its names are left alone.
    """
    dropped = [row for row in known if row.is_dropped and row.source not in columns.by_source]
    if not dropped:
        return columns
    places = dict(_storages(columns))
    return FileColumns((*columns, *_standing_in(dropped, places)))


def _standing_in(dropped: Iterable[KnownColumn], places: Mapping[str, Storage]) -> Iterator[FileColumn]:
    for row in dropped:
        if row.storage_key is not None and row.storage_key in places:
            yield FileColumn(
                source=row.source,
                model=NoModel,
                field=models.FileField(storage=places[row.storage_key]),
                # No table is called so: wherever its rows would be asked, there are none.
                table=sql.quote_identifier(f"dropped: {row.source}"),
                column=row.source,
                primary_key=(),
                storage_key=row.storage_key,
                excluded=is_left_alone(label_of(row.source)),
                recorded=False,
                dropped=True,
            )


def _storages(columns: FileColumns) -> Iterator[tuple[str, Storage]]:
    """Yield storages by their key: those of the project's settings, then, which count more, those of its columns."""
    for alias in django_settings.STORAGES:
        try:
            storage = unwrapped(storages[alias])
            yield storage_key(storage), storage
        except Exception:  # noqa: S112 -- whatever a third party's storage raises when it is made: then it is none
            continue
    for column in columns.stored:
        if (key := column.storage_key) and not key.startswith(UNUSABLE):
            yield key, column.storage
