"""pgcleanup.testing: what a project's own tests can assert, in an ordinary TestCase and under pytest's `db`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, default_storage
from django.db import connection
from django.test import TestCase, override_settings

from pgcleanup import sql
from pgcleanup.models import Outcome
from pgcleanup.testing import (
    FailingStorage,
    FileAssertions,
    assert_files_deleted,
    assert_files_kept,
    drain_now,
    replace_storage,
)
from tests.project.models import Attachment, Document
from tests.support import ledger


def stored(name: str = "a.txt", model: Any = Document) -> Any:
    return model.objects.create(file=ContentFile(b"content", name))


class TestInATestCase(FileAssertions, TestCase):
    """No commit, no setting, no waiting."""

    def test_file_of_a_deleted_row_is_gone(self) -> None:
        document = stored()

        with self.assertFilesDeleted(document.file):
            document.delete()

    def test_file_that_another_row_names_is_kept(self) -> None:
        document = stored()
        Attachment.objects.create(file=document.file.name)

        with self.assertFilesKept(document.file):
            document.delete()

    def test_each_of_several_changes_is_drained(self) -> None:
        first, second = stored("1.txt"), stored("2.txt")

        with self.assertFilesDeleted(first.file), self.assertFilesKept(second.file):
            first.delete()
        with self.assertFilesDeleted(second.file):
            second.delete()

    def test_nothing_of_the_test_before_is_left_in_the_ledger(self) -> None:
        assert ledger() == []


@override_settings(PGCLEANUP_DRAIN_ON_COMMIT=True, PGCLEANUP_GRACE_PERIOD=timedelta(0))
class TestOnCommitInATestCase(TestCase):
    """captureOnCommitCallbacks(execute=True) runs the drain, in the transaction of the test."""

    def test_file_is_gone_when_the_callbacks_ran(self) -> None:
        document = stored()

        with self.captureOnCommitCallbacks(execute=True):
            document.delete()
            there_before = default_storage.exists("docs/a.txt")

        assert there_before
        assert not default_storage.exists("docs/a.txt")

    def test_second_change_of_a_test_is_told_of_as_the_first_one(self) -> None:
        first, second = stored("1.txt"), stored("2.txt")
        first.delete()

        with self.captureOnCommitCallbacks(execute=True):
            second.delete()

        assert not default_storage.exists("docs/2.txt")

    def test_change_after_a_drain_is_told_of_too(self) -> None:
        first, second = stored("1.txt"), stored("2.txt")
        with self.captureOnCommitCallbacks(execute=True):
            first.delete()

        with self.captureOnCommitCallbacks(execute=True):
            second.delete()

        assert not default_storage.exists("docs/2.txt")

    def test_callbacks_that_are_not_executed_delete_nothing(self) -> None:
        document = stored()

        with self.captureOnCommitCallbacks() as callbacks:
            document.delete()

        assert len(callbacks) == 1
        assert default_storage.exists("docs/a.txt")

    def test_number_of_queries_of_the_code_under_test_is_its_own(self) -> None:
        document = stored()

        with self.assertNumQueries(1):
            Document.objects.filter(pk=document.pk).update(file="")


@pytest.fixture
def document(db: None) -> Document:
    return stored()


def test_drain_tells_what_became_of_each_name(document: Document) -> None:
    other = stored("b.txt")
    Attachment.objects.create(file=other.file.name)
    Document.objects.all().delete()

    drained = drain_now()

    assert drained.deleted == ["docs/a.txt"]
    assert drained.kept == ["docs/b.txt"]
    assert drained.report.counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}


def test_other_databases_of_the_project_that_the_test_may_not_query_are_left_out(document: Document) -> None:
    document.delete()

    assert drain_now().deleted == ["docs/a.txt"]


@pytest.mark.django_db(databases=["default", "other"])
def test_other_databases_that_the_test_may_query_count() -> None:
    document = stored()
    Document.objects.using("other").create(file=document.file.name)

    with assert_files_kept(document.file):
        document.delete()


def test_drain_waits_for_nothing_whatever_the_settings(document: Document, settings: Any) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(days=1)
    document.delete()

    assert drain_now().deleted == ["docs/a.txt"]


def test_drain_leaves_the_parameters_of_the_tests_transaction_as_they_were(document: Document) -> None:
    sql.execute("default", "SET LOCAL lock_timeout = '123ms'")
    document.delete()

    drain_now()

    assert sql.fetch("default", "SHOW lock_timeout") == [("123ms",)]
    assert sql.fetch("default", "SHOW statement_timeout") == [("0",)]


@pytest.mark.django_db(transaction=True)
def test_drain_works_with_real_commits_as_well() -> None:
    stored().delete()

    assert drain_now().deleted == ["docs/a.txt"]
    assert not connection.in_atomic_block


class TestMessages:
    """A failed assertion says why."""

    def test_nothing_let_the_name_go(self, document: Document) -> None:
        with pytest.raises(AssertionError, match=r"docs/a\.txt was not deleted: nothing in database .* let it go"):  # noqa: SIM117
            with assert_files_deleted(document.file):
                pass

    def test_another_row_names_it(self, document: Document) -> None:
        Attachment.objects.create(file="docs/a.txt")

        with pytest.raises(AssertionError, match=r"it was kept \(project\.attachment\.file\)"):  # noqa: SIM117
            with assert_files_deleted(document.file):
                document.delete()

    def test_storage_failed(self, db: None) -> None:
        with replace_storage(Document, "file", FailingStorage()) as storage:
            document = stored()
            storage.fail(PermissionError("no right to delete"))

            with pytest.raises(AssertionError, match=r"retrying \(PermissionError: no right to delete\)"):  # noqa: SIM117
                with assert_files_deleted(document.file):
                    document.delete()

    def test_file_was_not_there_to_begin_with(self, db: None) -> None:
        with pytest.raises(AssertionError, match=r"docs/none\.txt is not in the storage to begin with"):  # noqa: SIM117
            with assert_files_deleted("docs/none.txt"):
                pass

    def test_field_names_no_file(self, db: None) -> None:
        with pytest.raises(AssertionError, match="the field names no file"):  # noqa: SIM117
            with assert_files_deleted(Document.objects.create().file):
                pass

    def test_file_that_was_to_stay_is_gone(self, document: Document) -> None:
        with pytest.raises(AssertionError, match=r"docs/a\.txt was deleted by the drain: no row names it"):  # noqa: SIM117
            with assert_files_kept(document.file):
                document.delete()

    def test_deletion_is_switched_off(self, document: Document, settings: Any) -> None:
        settings.PGCLEANUP_DELETE_FILES = False

        with pytest.raises(AssertionError, match="PGCLEANUP_DELETE_FILES is False"):  # noqa: SIM117
            with assert_files_deleted(document.file):
                document.delete()


class TestFailingStorage:
    """It works until it is told to fail, and again when it is told to recover."""

    def test_name_is_retried_once_the_storage_works_again(self, db: None) -> None:
        with replace_storage(Document, "file", FailingStorage()) as storage:
            document = stored()
            document.delete()

            with storage.failing():
                failed = drain_now()
            later = drain_now()

        assert failed.retrying == ["docs/a.txt"]
        assert later.deleted == ["docs/a.txt"]

    def test_one_name_fails_and_the_others_go_on(self, db: None) -> None:
        with replace_storage(Document, "file", FailingStorage()) as storage:
            for name in ("1.txt", "2.txt"):
                stored(name)
            Document.objects.all().delete()

            with storage.failing(names={"docs/1.txt"}, calls=("delete",)):
                drained = drain_now()

        assert drained.retrying == ["docs/1.txt"]
        assert drained.deleted == ["docs/2.txt"]

    def test_upload_fails_too(self, db: None) -> None:
        with replace_storage(Document, "file", FailingStorage()) as storage, storage.failing(OSError):  # noqa: SIM117
            with pytest.raises(OSError):  # noqa: PT011
                stored()

    def test_field_has_its_own_storage_again_after_the_block(self) -> None:
        before = Document._meta.get_field("file").storage

        with replace_storage(Document, "file", InMemoryStorage()):
            pass

        assert Document._meta.get_field("file").storage is before

    def test_it_can_be_named_in_the_settings(self, db: None, settings: Any) -> None:
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "pgcleanup.testing.FailingStorage"}}
        document = stored()
        document.delete()

        with default_storage.failing():
            drained = drain_now()

        assert drained.retrying == ["docs/a.txt"]
        assert default_storage.holds("docs/a.txt")
