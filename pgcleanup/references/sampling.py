"""Some names that rows hold: the files of those must be there, if the storage is to be believed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from django.db import DatabaseError, transaction

from pgcleanup import sql
from pgcleanup.columns import FileColumns
from pgcleanup.references.places import PRESENT, places, rendered

# Asked in the midst of a batch, whose files are gone already: rather no answer than one that takes long.
SAMPLE_TIMEOUTS = {"lock_timeout": "500ms", "statement_timeout": "2s"}
SAMPLE_SECONDS = 5.0

# Some names of a column: of the first rows that have one.
_SAMPLE = """
SELECT {source}, s.name
  FROM (SELECT {compared}::text AS name FROM {table}
         WHERE {compared} OPERATOR(pg_catalog.<>) '' {in_folder}
         LIMIT 1000) s
 WHERE s.name <> ALL (%(without)s)
 GROUP BY s.name
 LIMIT %(limit)s
"""
_IN_FOLDER = "AND pg_catalog.starts_with(pg_catalog.concat({column}), %(folder)s)"


class Sample(NamedTuple):
    """Some of the names that rows hold."""

    names: list[tuple[str, str]]
    """Source and name, in no order."""
    is_complete: bool
    """Whether every column was asked and has answered: where not, rows may name files although none is here."""


def sample(using: str, columns: FileColumns, key: str, limit: int, without: Iterable[str], folder: str = "") -> Sample:
    """Return up to `limit` names of each column of the storage that rows name, only those below `folder` if given.

    Columns that do not answer within SAMPLE_SECONDS altogether are left out.
    """
    columns = FileColumns(column for column in columns.stored if column.storage_key == key)
    names: list[tuple[str, str]] = []
    is_complete = True
    end = time.monotonic() + SAMPLE_SECONDS
    try:
        there = sql.fetch(using, PRESENT, places(columns))
    except DatabaseError:
        return Sample([], is_complete=False)
    for index, *place in there:
        parameters = {"limit": limit, "without": list(without), "folder": folder}
        branch = _SAMPLE.replace("{in_folder}", _IN_FOLDER if folder else "")
        try:
            with transaction.atomic(using=using):
                sql.set_local(using, row_security="off", **SAMPLE_TIMEOUTS)
                names += sql.fetch(using, rendered(branch, columns[index - 1], *place), parameters)
                transaction.set_rollback(True, using=using)
        except DatabaseError:
            is_complete = False
        if time.monotonic() >= end:
            return Sample(names, is_complete=False)
    return Sample(names, is_complete)
