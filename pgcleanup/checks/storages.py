"""The storages of the file columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.core.files.storage import Storage
from django.db import DEFAULT_DB_ALIAS

from pgcleanup.checks.configuration import has_postgresql, is_readable
from pgcleanup.columns import FileColumn, find_file_columns
from pgcleanup.storage_keys import describe, lies_inside


def check_storages(**kwargs: Any) -> list[CheckMessage]:
    """Look for storages that cannot be set up, cannot tell a file's age, or lie inside each other."""
    if not has_postgresql() or not is_readable():
        return []
    columns = [column for column in find_file_columns(DEFAULT_DB_ALIAS).stored if not column.excluded]
    broken = [column for column in columns if _is_unusable(column)]
    usable = {column.storage_key: column for column in columns if column not in broken}
    return [
        *(_unusable(column) for column in broken),
        *_ageless(list(usable.values())),
        *_divided(columns),
        *_nested([column.storage for column in usable.values()]),
    ]


def _is_unusable(column: FileColumn) -> bool:
    return column.storage_key is not None and column.storage_key.startswith("unusable")


def _unusable(column: FileColumn) -> CheckMessage:
    return checks.Warning(
        f"The storage of {column.source} cannot be set up ({column.storage_key}); no file of it is deleted.",
        hint="Mend its entry in STORAGES, or the field's storage argument.",
        id="pgcleanup.W005",
    )


def _ageless(columns: list[FileColumn]) -> Iterator[CheckMessage]:
    for column in columns:
        if type(column.storage).get_modified_time is Storage.get_modified_time:
            yield checks.Warning(
                f"{describe(column.storage)} of {column.source} cannot tell how old a file is, so only the grace "
                "period protects a file that is written again under a name that was just let go.",
                hint="Define get_modified_time() in the storage class, and keep PGCLEANUP_GRACE_PERIOD well above the "
                "time an upload takes.",
                id="pgcleanup.W006",
            )


def _divided(columns: list[FileColumn]) -> Iterator[CheckMessage]:
    for column in columns:
        if column.also - {None}:
            yield checks.Warning(
                f"Another model on the table of {column.source} keeps its files in another storage. All names of the "
                f"column count for both; only files in {describe(column.storage)} are deleted.",
                hint="Give both fields the same storage, or each model a table of its own.",
                id="pgcleanup.W016",
            )


def _nested(storages: list[Storage]) -> Iterator[CheckMessage]:
    for outer, inner in permutations(storages, 2):
        if lies_inside(inner, outer):
            yield checks.Warning(
                f"{describe(inner)} lies inside {describe(outer)}: one file has two names, and a row "
                "that uses the one does not protect it from a deletion under the other.",
                hint="Give each storage a folder of its own, side by side.",
                id="pgcleanup.W007",
            )
