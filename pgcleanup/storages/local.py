"""Files on disk, as Django's own `FileSystemStorage` keeps them: one system call to look, one to delete."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.core.files.storage import Storage

from pgcleanup.storages.base import ABSENT, DIRECTORY, Adapter, Presence, Seen
from pgcleanup.storages.calls import Calls

# No file can have such a name, or such a parent.
_CANNOT_EXIST = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


def missing_folder(root: str) -> str | None:
    """Say so where the folder of a storage is not there."""
    return None if os.path.isdir(root) else f"its folder {root} is not there"


def is_empty_folder(root: str) -> bool:
    """Whether a folder holds nothing at all. False where we may not look into it."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return False


class LocalAdapter(Adapter):
    """Goes to the file itself. Names are clean (see `unclean`), so joining them needs no more care."""

    stands_in_for = ("path", "delete", "exists", "get_modified_time", "size")
    # Fewer calls from the drain, each a look around. More than so many gain nothing.
    at_once = at_first = 16
    has_folders = True

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        super().__init__(storage, calls)
        self._root = os.path.join(storage.location, "")  # type: ignore[attr-defined]

    def look_many(self, names: Sequence[str]) -> dict[str, Seen | Exception]:
        calls, storage, root, found = self.calls, self.storage, self._root, dict[str, Seen | Exception]()
        # Read once, and before the looks: whatever is written meanwhile looks younger than it is.
        now = time.time()
        for name in names:
            calls.current = "look at", storage, name
            try:
                seen = os.stat(root + name)
            except (OSError, ValueError) as error:
                found[name] = self._without_file(name, now, error)
            else:
                found[name] = DIRECTORY if stat.S_ISDIR(seen.st_mode) else _present(now, seen.st_mtime, seen.st_size)
        calls.current = None
        return found

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        calls, storage, root, answers = self.calls, self.storage, self._root, dict[str, Exception | None]()
        for name in files:
            calls.alive()
            calls.current = "delete", storage, name
            try:
                os.remove(root + name)
            except FileNotFoundError:
                answers[name] = None
            except OSError as error:
                answers[name] = error
            else:
                answers[name] = None
        calls.current = None
        return answers

    def trouble(self) -> str | None:
        return missing_folder(self._root)

    def is_empty(self) -> bool:
        return is_empty_folder(self._root)

    def _without_file(self, name: str, now: float, error: Exception) -> Seen | Exception:
        """Return what stands under a name that leads nowhere: nothing, or a link whose target is gone."""
        if not isinstance(error, FileNotFoundError):
            return ABSENT if isinstance(error, OSError) and error.errno in _CANNOT_EXIST else error
        try:
            link = os.lstat(self._root + name)
        except OSError:
            return ABSENT
        return _present(now, link.st_mtime, 0)


def _present(now: float, modified: float, size: int) -> Seen:
    return Seen(Presence.PRESENT, timedelta(seconds=now - modified), size)
