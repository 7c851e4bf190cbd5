"""One file reached in more than one way: by tables that moved, aliases, classes and labels."""

from __future__ import annotations

import pytest
from django.core.files.storage import FileSystemStorage

from pgcleanup import sql
from pgcleanup.columns import find_file_columns
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.storage_keys import storage_key
from tests.drain.support import let_go, orphaned, pending, put, results, settled
from tests.project.models import Attachment, Restaurant, Selected
from tests.storages import MemoryStorage


class Trash(FileSystemStorage):
    """Keeps what it deletes."""

    def __init__(self) -> None:
        super().__init__()
        self.trash: list[str] = []

    def delete(self, name: str) -> None:
        self.trash.append(name)
        super().delete(name)


class Elsewhere(FileSystemStorage):
    """Keeps its files in a folder of their own below the location."""

    def path(self, name: str) -> str:
        return super().path(f"own/{name}")


class Overwriting(MemoryStorage):
    """Says that nothing exists, to be let overwrite it, as django-storages 1.14.4 does on S3."""

    def exists(self, name: str) -> bool:
        return False


class Bucket(MemoryStorage):
    """What a library's storage looks like."""

    bucket_name = "media"

    def delete(self, name: str) -> None:
        super().delete(name)


class PublicBucket(Bucket):
    """A project's class for one half of it."""


class PrivateBucket(Bucket):
    """And for the other."""


@pytest.mark.parametrize(
    ("change", "back"),
    [
        pytest.param(
            "ALTER TABLE project_attachment RENAME TO moved",
            "ALTER TABLE moved RENAME TO project_attachment",
            id="table renamed",
        ),
        pytest.param(
            "ALTER TABLE project_attachment RENAME file TO moved",
            "ALTER TABLE project_attachment RENAME moved TO file",
            id="column renamed",
        ),
        pytest.param(
            "CREATE SCHEMA moved; ALTER TABLE project_attachment SET SCHEMA moved",
            "ALTER TABLE moved.project_attachment SET SCHEMA public; DROP SCHEMA moved",
            id="table in another schema",
        ),
    ],
)
def test_storage_is_left_alone_while_a_column_is_not_where_this_process_looks(change, back):
    """Between a migration and the restart of a service, its rows would not be asked."""
    Attachment.objects.create(file="docs/a.txt")
    path = orphaned("docs/a.txt")
    sql.execute("default", change)
    try:
        report = drain()

        assert report.exit_code == 3
        assert "project.attachment.file is" in report.refused[0]
        assert path.exists()
        assert pending() == ["docs/a.txt"]
    finally:
        sql.execute("default", back)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param("SET attnum = 99", id="column dropped in SQL"),
        pytest.param("SET table_name = NULL, attnum = 0", id="column dropped by a migration"),
        pytest.param("SET table_name = 'dropped'", id="table dropped"),
    ],
)
def test_storage_is_left_alone_by_a_process_that_has_a_column_which_is_gone(known):
    """Its names may be in a column by now that this process does not know: it was not restarted yet."""
    path = orphaned("docs/a.txt")
    change = f"UPDATE file_deletion_column {known} WHERE source = 'project.selected.file'"
    sql.execute("default", f"CREATE TABLE dropped (); {change}; DROP TABLE dropped")

    report = drain()

    assert report.exit_code == 3
    assert "project.selected.file is gone for the database" in report.refused[0]
    assert path.exists()


def test_alias_of_the_same_database_with_another_search_path_is_asked(alias):
    sql.execute("default", "CREATE SCHEMA tenant; CREATE TABLE tenant.project_document (LIKE public.project_document)")
    try:
        alias("tenant", OPTIONS={"options": "-c search_path=tenant"})
        sql.execute("default", "INSERT INTO tenant.project_document (id, title, file) VALUES (1, '', 'docs/a.txt')")
        path = orphaned("docs/a.txt")

        report = drain()

        assert report.counts == {Outcome.KEPT: 1}
        assert settled("reason") == [("project.document.file (tenant)",)]
        assert path.exists()
    finally:
        sql.execute("default", "DROP SCHEMA tenant CASCADE")


def test_name_that_postgresql_cuts_is_found_where_it_is():
    assert len(sql.unquoted(sql.quote_identifier("ф" * 40)).encode()) <= 63


def test_storage_that_shares_a_folder_deletes_in_its_own_way(store):
    storage = store(Trash(), Attachment)
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)

    drain()

    assert storage.trash == ["docs/a.txt"]
    assert not path.exists()


def test_storage_that_shares_a_folder_looks_where_its_own_files_are(store):
    store(Elsewhere(), Attachment)
    path = put("own/a.txt")
    let_go("a.txt", model=Attachment)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_label_of_an_inherited_field_means_the_parents_column(settings):
    settings.PGCLEANUP_EXCLUDE = ["project.Restaurant.photo"]

    columns = find_file_columns("default").by_source

    assert columns["project.place.photo"].excluded
    assert not columns[f"{Restaurant._meta.label_lower}.menu"].excluded


def test_classes_of_a_project_on_one_bucket_are_one_storage(store):
    private, public = PrivateBucket("one"), PublicBucket("one")

    assert storage_key(private) == storage_key(public)
    assert storage_key(private) != storage_key(Bucket("other"))


def test_file_of_a_storage_that_denies_having_it_is_deleted(store):
    storage = store(Overwriting(), Selected)
    storage.put("a.txt")
    let_go("a.txt", model=Selected)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert storage.called("delete") == ["a.txt"]


def test_entry_whose_id_is_in_the_history_already_settles_into_the_history_all_the_same(heard):
    """After loaddata, or a sequence that was set back."""
    path = orphaned("docs/a.txt")
    sql.execute(
        "default",
        "INSERT INTO settled_file_deletion (id, source, name, operation, transaction_id, db_user, application_name, "
        "attempts, outcome) SELECT id, 'old', 'old.txt', 'DELETE', 1, '', '', 0, 'deleted' FROM pending_file_deletion",
    )
    orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 2}
    assert pending() == []
    assert not path.exists()
    assert sorted(settled("name")) == [("docs/a.txt",), ("docs/b.txt",), ("old.txt",)]


def test_accept_absent_takes_at_once_what_was_put_off(media_root):
    let_go("docs/a.txt")
    media_root.rmdir()
    drain()
    media_root.mkdir()

    assert drain(accept_absent=True).counts == {Outcome.ABSENT: 1}


def test_dry_run_does_not_believe_a_storage_whose_root_is_gone(media_root):
    let_go("docs/a.txt")
    media_root.rmdir()

    report, heard = results(dry_run=True)

    assert heard["docs/a.txt"].outcome is Outcome.POSTPONED
    assert "cannot be trusted" in report.problems[0]
    assert report.exit_code == 1


class Unanswering(Overwriting):
    """And whose server does not answer for one name."""

    file_overwrite = True

    def get_modified_time(self, name: str):
        if name == "silent.txt":
            raise ConnectionError("503 Slow Down")
        return super().get_modified_time(name)


def test_file_whose_storage_denies_having_it_and_then_does_not_answer_is_not_taken_for_absent(store):
    storage = store(Unanswering(), Selected)
    storage.put("silent.txt")
    storage.put("a.txt")
    let_go("silent.txt", "a.txt", "none.txt", model=Selected)

    _, told = results()

    assert {name: result.outcome for name, result in told.items()} == {
        "silent.txt": Outcome.POSTPONED,
        "a.txt": Outcome.DELETED,
        "none.txt": Outcome.ABSENT,
    }
    assert "silent.txt" in storage.files
