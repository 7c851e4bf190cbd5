"""Any storage, by Django's storage API."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from django.core.files.storage import FileSystemStorage, Storage
from django.utils.timezone import is_naive, make_aware

from pgcleanup.storages.base import ABSENT, DIRECTORY, Presence, Seen
from pgcleanup.storages.calls import Calls
from pgcleanup.storages.clients import with_deadline
from pgcleanup.storages.errors import says_not_found
from pgcleanup.storages.local import is_empty_folder, missing_folder
from pgcleanup.storages.one_by_one import THREADS, OneByOne


class GenericAdapter(OneByOne):
    """Asks `exists` first: the exceptions for a missing file differ from storage to storage, its answer does not."""

    def __init__(self, storage: Storage, calls: Calls | None = None, *, threads: int = THREADS) -> None:
        super().__init__(with_deadline(storage), calls, threads=threads)
        self._overwrites = any(getattr(storage, name, False) for name in ("file_overwrite", "overwrite_files"))

    def _look(self, name: str) -> Seen:
        if not self.storage.exists(name) and not self._is_there_all_the_same(name):
            return ABSENT
        return Seen(Presence.PRESENT, self._age(name), self._size(name))

    def _is_there_all_the_same(self, name: str) -> bool:
        """Ask a second way: of a storage that overwrites, `exists` may say False to let it (django-storages 1.14.4)."""
        try:
            self.storage.get_modified_time(name)
        except Exception as error:  # for a missing file they differ from storage to storage
            # Not to be taken for absence: a server that does not answer, or answers with something else.
            if self._overwrites and not says_not_found(error):
                raise
            return False
        return True

    def _delete(self, name: str, seen: Seen) -> None:
        self.storage.delete(name)

    def _age(self, name: str) -> timedelta | None:
        try:
            modified = self.storage.get_modified_time(name)
        except NotImplementedError:
            return None
        # Naive where USE_TZ is off: in local time, says Django's storage API.
        aware = make_aware(modified) if is_naive(modified) else modified
        return datetime.now(timezone.utc) - aware

    def _size(self, name: str) -> int | None:
        try:
            return int(self.storage.size(name))
        except NotImplementedError:
            return None


class SerialAdapter(GenericAdapter):
    """One call after the other: for storages that are used by one thread at a time, and for files on disk."""

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        super().__init__(storage, calls, threads=1)
        # A class of somebody's own on files on disk.
        self._root: str | None = os.fspath(storage.location) if isinstance(storage, FileSystemStorage) else None
        self.has_folders = self._root is not None

    def _look(self, name: str) -> Seen:
        seen = super()._look(name)
        if seen.presence is Presence.PRESENT and self._root is not None and os.path.isdir(self.storage.path(name)):
            return DIRECTORY
        return seen

    def trouble(self) -> str | None:
        return missing_folder(self._root) if self._root is not None else None

    def is_empty(self) -> bool:
        return self._root is not None and is_empty_folder(self._root)
