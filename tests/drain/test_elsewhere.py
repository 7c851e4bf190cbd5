"""The project's other databases: their rows name files of the same storage, and no fence reaches across."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, transaction

from pgcleanup import sql
from pgcleanup.drain import Run, drain
from pgcleanup.exceptions import DrainRefused
from pgcleanup.ledger.fence import DRAIN_PARAMETERS
from pgcleanup.models import Outcome
from tests.drain.support import NOW, Stepped, agree, end_retry_waits, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Document
from tests.support import alias_for, database, run_sql

NAME = "docs/a.txt"


def test_row_in_another_database_keeps_the_file():
    path = put(NAME)
    Document.objects.using("other").create(file=NAME)
    let_go(NAME)

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled("reason") == [("project.document.file (other)",)]
    assert path.exists()


def test_entry_in_another_database_that_was_not_seen_yet_holds_the_name():
    path = put(NAME)
    Document.objects.using("other").create(file=NAME).delete()
    let_go(NAME)

    report = drain()

    assert report.counts == {}
    assert report.waiting == {"other_entry": 1}
    assert pending(using="other") == [NAME]
    assert path.exists()


def test_entry_in_another_database_whose_transactions_are_open_holds_the_name(session):
    path = put(NAME)
    row = Document.objects.using("other").create(file=NAME)
    reader = session("other").begin()
    (name,) = reader.run("SELECT file FROM project_document")[0]
    row.delete()
    Stepped("other").until("stamped")
    let_go(NAME)

    held = drain()
    reader.name(name)
    reader.commit()
    end_retry_waits()

    assert held.waiting == {"other_entry": 1}
    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_each_database_settles_its_own_entries_of_a_name(heard):
    path = put(NAME)
    Document.objects.using("other").create(file=NAME).delete()
    let_go(NAME)
    Stepped("other").until("stamped")

    here, there = drain(), drain(using="other")

    assert here.counts == {Outcome.DELETED: 1}
    assert there.counts == {Outcome.ABSENT: 1}
    assert settled(using="other") == [(NAME, "absent")]
    assert not path.exists()


def test_grace_period_is_at_least_the_configured_one_where_another_database_shares_a_storage(settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)

    run = Run("default", grace=NOW)

    assert run.context.grace == timedelta(hours=1)


def test_database_without_any_of_the_tables_is_not_asked(alias, settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    alias("postgres", NAME="postgres")

    run = Run("default", grace=NOW)

    assert "postgres" not in run.context.elsewhere.columns


def test_alias_of_the_same_database_is_not_another_database(alias):
    alias("again")
    orphaned(NAME)

    run = Run("default", grace=NOW)
    report = drain()

    assert list(run.context.elsewhere.columns) == ["other"]
    assert report.counts == {Outcome.DELETED: 1}


def test_reads_of_the_check_do_not_go_through_a_router(settings):
    settings.DATABASE_ROUTERS = ["tests.drain.test_elsewhere.ReadsElsewhere"]
    path = put(NAME)
    let_go(NAME)
    Document.objects.using("default").create(file=NAME)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


class ReadsElsewhere:
    """Sends every read to the other database."""

    def db_for_read(self, model, **hints):
        return "other"


def test_locked_table_in_another_database_costs_no_attempt(session, monkeypatch):
    path = orphaned(NAME)
    monkeypatch.setitem(DRAIN_PARAMETERS, "lock_timeout", "100ms")
    monkeypatch.setattr("pgcleanup.ledger.fence.LOCK_SECONDS", 0.1)
    run = Stepped()
    run.until("stamped")
    session("other").begin().run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")

    report = run.finish()

    assert report.counts == {}
    assert "could not be checked" in report.problems[0]
    assert entries("attempts") == [(0,)]
    assert path.exists()


def test_table_of_another_database_that_may_not_be_read_is_told_with_the_grant(role, monkeypatch):
    path = orphaned(NAME)
    connections["other"].close()
    with monkeypatch.context() as limited:
        for key, value in {"USER": role["user"], "PASSWORD": role["password"]}.items():
            limited.setitem(connections["other"].settings_dict, key, value)
        report = drain()
    connections["other"].close()

    assert report.counts == {}
    assert 'database "other" may name files of the same storages' in report.problems[0]
    assert "permission denied for table " in report.problems[0]
    assert ". As the tables' owner: GRANT SELECT ON " in report.problems[0]
    assert report.problems[0].endswith(f', "public"."thirdparty_brochure" TO "{role["user"]}";')
    assert path.exists()


def test_another_database_that_goes_away_in_mid_drain_leaves_the_files_alone(session, monkeypatch):
    path = orphaned(NAME)
    run = Stepped()
    run.until("claimed")
    pid = connections["other"].connection.info.backend_pid
    session().run("SELECT pg_terminate_backend(%s, 5000)", pid)

    try:
        report = run.finish()
    finally:
        connections["other"].close()

    assert report.counts == {}
    assert "could not be checked" in report.problems[0]
    assert entries("attempts") == [(0,)]
    assert path.exists()
    assert drain().counts == {Outcome.DELETED: 1}


def test_another_database_that_cannot_be_reached_is_a_refusal_that_names_it(alias):
    path = orphaned(NAME)
    alias("gone", NAME="there is no such database")

    with pytest.raises(DrainRefused, match='database "gone"'):
        drain()

    assert path.exists()


def test_other_database_has_its_own_history():
    Document.objects.using("other").create(file=NAME).delete()

    drain(using="other")

    assert settled(using="other") == [(NAME, "absent")]
    assert settled() == []
    assert sql.fetch("other", "SELECT count(*) FROM pending_file_deletion")[0][0] == 0


def test_open_transaction_in_another_database_of_the_same_thread_is_refused():
    """It would be asked inside of it, where a deletion that is rolled back later has already happened."""
    path = orphaned("docs/a.txt")
    Document.objects.using("other").create(file="docs/a.txt")

    with transaction.atomic(using="other"):
        Document.objects.using("other").all().delete()
        with pytest.raises(DrainRefused, match='"other" may name files of the same storages, and a transaction is'):
            drain()
        transaction.set_rollback(True, using="other")

    assert path.exists()


RENAME = "ALTER TABLE project_attachment RENAME file TO scan;"
RENAME_BACK = "ALTER TABLE project_attachment RENAME scan TO file;"
OF_ATTACHMENTS = "WHERE source = 'project.attachment.file'"
HIDE = "ALTER TABLE file_deletion_column RENAME TO hidden_column;"
SHOW = "ALTER TABLE hidden_column RENAME TO file_deletion_column;"


@pytest.fixture
def changed_there():
    """Change the other database in SQL, and undo it."""
    backs: list[str] = []

    def change(statements: str, back: str) -> None:
        sql.execute("other", statements)
        backs.append(back)

    yield change
    for back in backs:
        sql.execute("other", back)
    agree()


@pytest.mark.parametrize(
    ("change", "back", "says"),
    [
        pytest.param(
            f"{RENAME} UPDATE file_deletion_column SET source = 'project.attachment.scan' {OF_ATTACHMENTS}",
            RENAME_BACK,
            'project.attachment.file is unknown to database "other", '
            'project.attachment.scan is known to database "other", but not to this process',
            id="field renamed",
        ),
        pytest.param(
            "ALTER TABLE project_attachment RENAME TO project_enclosure; "
            f"UPDATE file_deletion_column SET source = 'project.enclosure.file' {OF_ATTACHMENTS}",
            "ALTER TABLE project_enclosure RENAME TO project_attachment",
            'project.enclosure.file is known to database "other", but not to this process',
            id="model renamed",
        ),
        pytest.param(
            RENAME,
            RENAME_BACK,
            'project.attachment.file is project_attachment.scan for database "other"',
            id="column renamed",
        ),
        pytest.param(
            f"{RENAME} UPDATE file_deletion_column SET table_name = NULL, attnum = NULL {OF_ATTACHMENTS}",
            RENAME_BACK,
            'project.attachment.file is missing for database "other"',
            id="column not there yet",
        ),
        pytest.param(
            f"{HIDE} {RENAME}",
            f"{SHOW} {RENAME_BACK}",
            'project.attachment.file is missing for database "other"',
            id="column not there, in a database without a ledger",
        ),
        pytest.param(
            f"DELETE FROM file_deletion_column {OF_ATTACHMENTS}",
            "",
            'project.attachment.file is unknown to database "other"',
            id="field that it does not know",
        ),
        pytest.param(
            "UPDATE file_deletion_column c SET storage_key = o.storage_key FROM file_deletion_column o "
            "WHERE c.source = 'project.archive.file' AND o.source = 'project.attachment.file'",
            "",
            'project.archive.file is in another storage for database "other"',
            id="field in this storage only there",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True], ids=["drain", "dry run"])
def test_storage_is_left_alone_where_another_database_sees_other_columns(change, back, says, dry_run, changed_there):
    """It was migrated before or after this one: names in its renamed column would not be asked."""
    path = orphaned(NAME)
    changed_there(change, back or "SELECT")

    report = drain(dry_run=dry_run)

    assert report.counts == {}
    assert report.exit_code == 3
    assert says in report.refused[0]
    assert "Run manage.py migrate --database other with the settings" in report.refused[0]
    assert entries("name, attempts, retry_at") == [(NAME, 0, None)]
    assert path.exists()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE file_deletion_column SET table_name = NULL, attnum = NULL", id="noted without a table"),
        pytest.param("DELETE FROM file_deletion_column", id="not noted"),
    ],
)
def test_table_that_another_database_does_not_have_is_no_difference(change, changed_there):
    """Most projects have the tables of an app in one database only, and need not migrate the others for it."""
    path = orphaned(NAME)
    changed_there(
        f"ALTER TABLE project_attachment RENAME TO hidden; {change} {OF_ATTACHMENTS}",
        "ALTER TABLE hidden RENAME TO project_attachment",
    )

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_table_of_an_older_system_that_happens_to_have_the_name_is_no_difference():
    """Nobody migrates that database, and nobody should."""
    path, kept = orphaned(NAME), put("docs/b.txt")
    let_go("docs/b.txt")
    name = f"{connections['default'].settings_dict['NAME']}_older"
    with database(name) as url, alias_for("older", url):
        run_sql("CREATE TABLE project_document (id int, title text)", using="older")
        run_sql("CREATE TABLE project_attachment (id int, file text)", using="older")
        run_sql("INSERT INTO project_attachment VALUES (1, 'docs/b.txt')", using="older")

        assert drain().counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}

    assert kept.exists()
    assert not path.exists()


def test_field_in_another_storage_there_whose_rows_are_asked_is_no_difference(changed_there):
    """A MEDIA_ROOT that moved: the other database has not been told of it yet."""
    path, kept = orphaned(NAME), put("docs/b.txt")
    Document.objects.using("other").create(file="docs/b.txt")
    let_go("docs/b.txt")
    changed_there("UPDATE file_deletion_column SET storage_key = 'elsewhere' WHERE storage_key IS NOT NULL", "SELECT")

    assert drain().counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}
    assert kept.exists()
    assert not path.exists()


def test_note_of_a_column_whose_table_another_database_does_not_have_is_no_difference():
    path = orphaned(NAME)
    note = "SELECT 'shop.older.file', storage_key FROM file_deletion_column"
    sql.execute("other", f"INSERT INTO file_deletion_column (source, storage_key) {note} {OF_ATTACHMENTS}")
    sql.execute("other", "UPDATE file_deletion_column SET attnum = 0 WHERE source = 'shop.older.file'")

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_database_all_of_whose_tables_were_renamed_is_asked():
    """None of this process's tables is there, but the database knows that it has columns of the storage."""
    path = orphaned(NAME)
    name = f"{connections['default'].settings_dict['NAME']}_renamed"
    row = "SELECT * FROM file_deletion_column WHERE source = 'project.attachment.file'"
    [(_, _, attnum, key)] = sql.fetch("default", row)
    with database(name) as url, alias_for("renamed", url):
        sql.execute(
            "renamed",
            "CREATE TABLE enclosure (file text);"
            "CREATE TABLE file_deletion_column (source text, table_name regclass, attnum smallint, storage_key text)",
        )
        sql.execute(
            "renamed",
            "INSERT INTO file_deletion_column VALUES ('project.enclosure.file', 'enclosure', %s, %s)",
            [attnum, key],
        )

        report = drain()

    assert report.exit_code == 3
    assert 'project.enclosure.file is known to database "renamed", but not to this process' in report.refused[0]
    assert path.exists()


def test_column_that_is_renamed_in_another_database_in_mid_drain_is_seen_by_the_check(changed_there):
    path = orphaned(NAME)
    run = Stepped()
    run.until("claimed")
    changed_there(RENAME, RENAME_BACK)

    report = run.finish()

    assert report.exit_code == 3
    assert path.exists()
