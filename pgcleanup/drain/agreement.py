"""Whether this process and the database agree on what the file columns are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from django.core.files.storage import FileSystemStorage, Storage

from pgcleanup.columns import FileColumns

ADVICE = "Run manage.py migrate with the settings that your site runs with, and restart its services."
_OF_FOLDERS = " A MEDIA_ROOT that is not set, or is relative, depends on the folder that a command is started in."


def advice_about(storage: Storage) -> str:
    """Say what to do where a process and the database disagree about a storage."""
    return ADVICE + (_OF_FOLDERS if isinstance(storage, FileSystemStorage) else "")


_NOTHING: Mapping[str, str] = MappingProxyType({})


def disagreements(
    columns: FileColumns, known: Iterable[tuple[str, str | None]], key: str, moved: Mapping[str, str] = _NOTHING
) -> list[str]:
    """Return what this process and the database see differently about the storage `key`, a phrase each.

    A column that only one of them knows, or another storage key, means that this process runs other code
    or settings than the last `migrate` did: it could miss a reference, or look in the wrong place.
    """
    mine = {(column.source, column.storage_key) for column in columns}
    known = set(known)
    odd = sorted(source for source, place in mine ^ known if place in (key, None))
    here, there = {source for source, _ in mine}, {source for source, _ in known}
    differences = [f"{source} {_difference(source in here, source in there)}" for source in dict.fromkeys(odd)]
    elsewhere = sorted(source for source, place in mine if source in moved and place in (key, None))
    return [*differences, *(f"{source} is {moved[source]} for the database" for source in elsewhere)]


def _difference(here: bool, there: bool) -> str:
    if here and there:
        return "is in another storage for the database"
    return "is unknown to the database" if here else "is known to the database, but not to this process"
