"""Storages that fail, count, are slow, or cannot tell: what tests need beside files on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage
from django.utils.deconstruct import deconstructible

from pgcleanup.storages import SerialAdapter, register


@deconstructible
class MemoryStorage(Storage):
    """Files in a dictionary, and a list of the calls that came in."""

    def __init__(self, location: str = "memory") -> None:
        self.location = location
        self.files: dict[str, tuple[bytes, datetime]] = {}
        self.calls: list[tuple[str, str]] = []

    def put(self, name: str, content: bytes = b"content", *, age: timedelta = timedelta(hours=1)) -> None:
        self.files[name] = (content, datetime.now(timezone.utc) - age)

    def called(self, method: str) -> list[str]:
        """Return the names that a method was called with."""
        return [name for called, name in self.calls if called == method]

    def exists(self, name: str) -> bool:
        self.calls.append(("exists", name))
        return name in self.files

    def delete(self, name: str) -> None:
        self.calls.append(("delete", name))
        self.files.pop(name, None)

    def size(self, name: str) -> int:
        return len(self.files[name][0])

    def get_modified_time(self, name: str) -> datetime:
        return self.files[name][1]

    def _open(self, name: str, mode: str = "rb") -> Any:
        self.calls.append(("open", name))
        return ContentFile(self.files[name][0], name)

    def _save(self, name: str, content: Any) -> str:
        self.put(name, content.read(), age=timedelta(0))
        return name

    def url(self, name: str) -> str:
        return f"/{name}"


# One call after the other, so that a test knows what comes next. Threads have tests of their own.
register(MemoryStorage, SerialAdapter)


class AgelessStorage(MemoryStorage):
    """Cannot tell when a file was written, nor how large it is."""

    def get_modified_time(self, name: str) -> datetime:
        raise NotImplementedError("no get_modified_time() in this storage")

    def size(self, name: str) -> int:
        raise NotImplementedError("no size() in this storage")


class FailingStorage(MemoryStorage):
    """Raises when it is asked to look at or to delete one of the names; at any name by default."""

    def __init__(
        self,
        location: str = "failing",
        names: Iterable[str] | None = None,
        error: Callable[[], Exception] = lambda: ConnectionError("no route to the bucket"),
        method: str = "exists",
    ) -> None:
        super().__init__(location)
        self.names = None if names is None else set(names)
        self.error = error
        self.method = method
        self.broken = True

    def _maybe_fail(self, method: str, name: str) -> None:
        if self.broken and method == self.method and (self.names is None or name in self.names):
            self.calls.append((method, name))
            raise self.error()

    def exists(self, name: str) -> bool:
        self._maybe_fail("exists", name)
        return super().exists(name)

    def delete(self, name: str) -> None:
        self._maybe_fail("delete", name)
        super().delete(name)


class DeletesAndRaises(FailingStorage):
    """Deletes the file, and raises all the same: the answer was lost on its way."""

    def __init__(self, location: str = "deletes and raises", names: Iterable[str] | None = None) -> None:
        super().__init__(location, names, method="delete")

    def delete(self, name: str) -> None:
        MemoryStorage.delete(self, name)
        self._maybe_fail("delete", name)


class SwitchedStorage(MemoryStorage):
    """Fails at every call from a given number of deletions on."""

    def __init__(
        self, location: str = "switched", after: int = 0, methods: Iterable[str] = ("exists", "delete")
    ) -> None:
        super().__init__(location)
        self.left = after
        self.methods = set(methods)
        self.broken = True

    def _maybe_fail(self, method: str, name: str) -> None:
        if self.broken and self.left <= 0 and method in self.methods:
            self.calls.append((method, name))
            raise ConnectionError("no route to the bucket")

    def exists(self, name: str) -> bool:
        self._maybe_fail("exists", name)
        return super().exists(name)

    def delete(self, name: str) -> None:
        self._maybe_fail("delete", name)
        self.left -= 1
        super().delete(name)


class SlowStorage(MemoryStorage):
    """Takes its time over each look."""

    def __init__(self, location: str = "slow", seconds: float = 0.05) -> None:
        super().__init__(location)
        self.seconds = seconds

    def exists(self, name: str) -> bool:
        time.sleep(self.seconds)
        return super().exists(name)


class CountingFiles(FileSystemStorage):
    """Files on disk, with the names that were deleted."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.deleted: list[str] = []

    def delete(self, name: str) -> None:
        self.deleted.append(name)
        super().delete(name)


class HangingFiles(FileSystemStorage):
    """Files on disk; a deletion of a name with "hang" in it does not come back before the file `go` is beside the root.

    It hangs in a thread of its own, as in a client library that has an event loop: no exception reaches that.
    """

    def delete(self, name: str) -> None:
        if "hang" not in name:
            return super().delete(name)
        worker = threading.Thread(target=self._delete_later, args=(name,))
        worker.start()
        return worker.join()

    def _delete_later(self, name: str) -> None:
        root = Path(self.location)
        (root.parent / "hangs").touch()
        while not (root.parent / "go").exists():
            time.sleep(0.01)
        super().delete(name)


class OtherClassOfFiles(FileSystemStorage):
    """Another class for the same place on disk."""
