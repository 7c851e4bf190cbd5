"""Storages for tests: one that fails on demand, and how to put it in a field's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.files.storage import InMemoryStorage, Storage
from django.db import models
from django.utils.deconstruct import deconstructible


@contextmanager
def replace_storage(model: type[models.Model], field: str, storage: Storage) -> Iterator[Any]:
    """Put the files of a field into another storage within the block. Yields the storage."""
    file_field: Any = model._meta.get_field(field)
    before = file_field.storage
    file_field.storage = storage
    try:
        yield storage
    finally:
        file_field.storage = before


@deconstructible(path="pgcleanup.testing.FailingStorage")
class FailingStorage(InMemoryStorage):
    """Files in memory, in a storage that fails when a test tells it to."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._error: Callable[[], Exception] | None = None
        self._names: frozenset[str] | None = None
        self._calls: frozenset[str] = frozenset()

    def fail(
        self,
        error: Exception | type[Exception] = ConnectionError("the storage does not answer"),  # noqa: B008
        *,
        names: set[str] | None = None,
        calls: tuple[str, ...] = ("exists", "delete", "open", "save", "size", "get_modified_time"),
    ) -> None:
        """Raise `error` from now on, when asked about one of the names, or about any."""
        self._error = error if isinstance(error, type) else lambda: error
        self._names = None if names is None else frozenset(names)
        self._calls = frozenset(calls)

    def recover(self) -> None:
        """Work again."""
        self._error = None

    @contextmanager
    def failing(self, *args: Any, **options: Any) -> Iterator[None]:
        """Fail within the block, in the way that `fail` describes."""
        self.fail(*args, **options)
        try:
            yield
        finally:
            self.recover()

    def holds(self, name: str) -> bool:
        """Whether the file is there. Never fails."""
        return super().exists(name)

    def exists(self, name: str) -> bool:
        self._maybe_fail("exists", name)
        return super().exists(name)

    def delete(self, name: str) -> None:
        self._maybe_fail("delete", name)
        super().delete(name)

    def size(self, name: str) -> int:
        self._maybe_fail("size", name)
        return super().size(name)

    def get_modified_time(self, name: str) -> Any:
        self._maybe_fail("get_modified_time", name)
        return super().get_modified_time(name)

    def _open(self, name: str, mode: str = "rb") -> Any:
        self._maybe_fail("open", name)
        return super()._open(name, mode)  # type: ignore[misc]  # unknown to django-stubs

    def _save(self, name: str, content: Any) -> str:
        self._maybe_fail("save", name)
        saved: str = super()._save(name, content)  # type: ignore[misc]  # as above
        return saved

    def _maybe_fail(self, call: str, name: str) -> None:
        if self._error is not None and call in self._calls and (self._names is None or name in self._names):
            raise self._error()
