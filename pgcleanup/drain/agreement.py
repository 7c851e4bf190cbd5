"""Whether this process and the database agree on what the file columns are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from django.core.files.storage import FileSystemStorage, Storage

from pgcleanup.columns import FileColumns
from pgcleanup.references import Answer

_ADVICE = "Run manage.py migrate{} with the settings that your site runs with, and restart its services."
ADVICE = _ADVICE.format("")
_OF_FOLDERS = " A MEDIA_ROOT that is not set, or is relative, depends on the folder that a command is started in."


def refusal(columns: FileColumns, answer: Answer, key: str, storage: Storage) -> str | None:
    """Say what this process and the databases that were asked see differently about a storage, and what to do."""
    sentences = [
        f"{_listed(differences)}. {advice}"
        for differences, advice in (
            (disagreements(columns, answer.known, key, answer.moved), ADVICE),
            *((found, _ADVICE.format(f" --database {alias}")) for alias, found in answer.differences.items()),
        )
        if differences
    ]
    if not sentences:
        return None
    return " ".join(sentences) + (_OF_FOLDERS if isinstance(storage, FileSystemStorage) else "")


_NOTHING: Mapping[str, str] = MappingProxyType({})


def disagreements(
    columns: FileColumns,
    known: Iterable[tuple[str, str | None]],
    key: str,
    moved: Mapping[str, str] = _NOTHING,
    database: str = "the database",
) -> list[str]:
    """Return what this process and a database see differently about the storage `key`, a phrase each.

    A column that only one of them knows, or another storage key, means that this process runs other code
    or settings than the last `migrate` did: it could miss a reference, or look in the wrong place.
    """
    mine = {(column.source, column.storage_key) for column in columns}
    known = set(known)
    odd = sorted(source for source, place in mine ^ known if place in (key, None))
    here, there = {source for source, _ in mine}, {source for source, _ in known}
    differences = [
        f"{source} {_difference(source in here, source in there, database)}" for source in dict.fromkeys(odd)
    ]
    elsewhere = sorted(source for source, place in mine if source in moved and place in (key, None))
    return [*differences, *(f"{source} is {moved[source]} for {database}" for source in elsewhere)]


def _difference(here: bool, there: bool, database: str) -> str:
    if here and there:
        return f"is in another storage for {database}"
    return f"is unknown to {database}" if here else f"is known to {database}, but not to this process"


def _listed(differences: list[str]) -> str:
    return ", ".join(differences[:5]) + (" and more" if len(differences) > 5 else "")
