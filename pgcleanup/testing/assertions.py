"""Assertions about files, each with the reason when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.files.storage import Storage, default_storage
from django.db import DEFAULT_DB_ALIAS
from django.db.models.fields.files import FieldFile

from pgcleanup.models import Outcome
from pgcleanup.testing.draining import Drained, drain_now


@contextmanager
def assert_files_deleted(
    *files: FieldFile | str, storage: Storage | None = None, using: str = DEFAULT_DB_ALIAS
) -> Iterator[None]:
    """Assert that what the block does, and a drain after it, deletes these files.

    Args:
        files: field files (`document.file`), or names.
        storage: where the names are; the default storage.
        using: the database whose rows the block changes.

    Raises:
        AssertionError: one was not there before, or is still there, and why.
    """
    places = [_place(file, storage) for file in files]
    for name, place in places:
        _fail_unless(_is_there(place, name), f"{name} is not in the storage to begin with.")
    yield
    drained = drain_now(using=using)
    for name, place in places:
        _fail_unless(not _is_there(place, name), f"{name} was not deleted: {_reason(drained, name, using)}")


@contextmanager
def assert_files_kept(
    *files: FieldFile | str, storage: Storage | None = None, using: str = DEFAULT_DB_ALIAS
) -> Iterator[None]:
    """Assert that these files are still there after what the block does and a drain. Arguments as above.

    Raises:
        AssertionError: one was not there before, or is gone.
    """
    places = [_place(file, storage) for file in files]
    for name, place in places:
        _fail_unless(_is_there(place, name), f"{name} is not in the storage to begin with.")
    yield
    drained = drain_now(using=using)
    for name, place in places:
        by = "the drain: no row names it" if name in drained.deleted else "something else than the drain"
        _fail_unless(_is_there(place, name), f"{name} was deleted by {by}.")


class FileAssertions:
    """The same as methods, for a TestCase: `with self.assertFilesDeleted(document.file): ...`."""

    assertFilesDeleted = staticmethod(assert_files_deleted)  # noqa: N815 -- as unittest names them
    assertFilesKept = staticmethod(assert_files_kept)  # noqa: N815


def _place(file: FieldFile | str, storage: Storage | None) -> tuple[str, Storage]:
    if isinstance(file, str):
        return file, storage or default_storage
    _fail_unless(bool(file), "the field names no file.")
    return str(file.name), storage or file.storage


def _is_there(storage: Storage, name: str) -> bool:
    holds: Callable[[str], bool] = getattr(storage, "holds", storage.exists)
    return holds(name)


def _reason(drained: Drained, name: str, using: str) -> str:
    result = next((result for result in drained.results if result.name == name), None)
    if result is None:
        return (
            f'nothing in database "{using}" let it go, so no row named it before, or its column is not watched '
            "(manage.py pgcleanup status)."
        )
    if not drained.report.deletes:
        return "PGCLEANUP_DELETE_FILES is False."
    if result.outcome is Outcome.KEPT:
        return f"it was kept ({result.detail})."
    word = result.outcome.label if result.outcome is not None else f"waiting, {result.waiting}"
    return f"{word} ({result.detail})."


def _fail_unless(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)
