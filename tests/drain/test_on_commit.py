"""PGCLEANUP_DRAIN_ON_COMMIT: the committing process deletes at once what it can, and its caller never notices us."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from pgcleanup.drain import after_commit, drain
from pgcleanup.ledger import control
from pgcleanup.models import Outcome
from pgcleanup.on_commit.draining import Known, drain_after_commit
from pgcleanup.on_commit.listening import Listener
from pgcleanup.triggers import sync
from tests.drain.support import entries, pending, put, settled
from tests.project.models import Archive, Attachment, Document
from tests.storages import FailingStorage
from tests.support import run_sql, session


@pytest.fixture(autouse=True)
def switched_on(settings: Any, database: None) -> Iterator[None]:
    """Switch it on, as a project would."""
    settings.PGCLEANUP_DRAIN_ON_COMMIT = True
    yield
    settings.PGCLEANUP_DRAIN_ON_COMMIT = False
    for one in connections.all(initialized_only=True):
        # The session goes on telling; a test that is not about it should not have to think of it.
        one.close()


@pytest.fixture
def document() -> Document:
    """Store a file, and a row that names it."""
    put("docs/a.txt")
    return Document.objects.create(file="docs/a.txt")


@pytest.fixture
def path(document: Document, media_root: Path) -> Path:
    """Return where the document's file is."""
    return media_root / document.file.name


def listeners(one: Any) -> list[Listener]:
    """Return ours among a connection's wrappers: once a test has used it, the middleware has one in each, too."""
    return [wrapper for wrapper in one.execute_wrappers if isinstance(wrapper, Listener)]


@contextmanager
def told() -> Iterator[list[str]]:
    """Yield a list of what the session is told in the block."""
    messages: list[str] = []
    raw = connection.connection

    def hear(message: Any) -> None:
        messages.append(message.sqlstate)

    raw.add_notice_handler(hear)
    yield messages
    raw.remove_notice_handler(hear)


class TestWhatIsDeleted:
    """Every change that runs through Django, as soon as it is committed."""

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda: Document.objects.update(file="docs/b.txt"), id="queryset.update()"),
            pytest.param(lambda: Document.objects.get().delete(), id="delete()"),
            pytest.param(lambda: Document.objects.all().delete(), id="queryset.delete()"),
            pytest.param(lambda: run_sql("UPDATE project_document SET file = ''"), id="raw UPDATE"),
            pytest.param(lambda: run_sql("DELETE FROM project_document"), id="raw DELETE"),
            pytest.param(lambda: run_sql("TRUNCATE project_document CASCADE"), id="raw TRUNCATE"),
            pytest.param(
                lambda: Document.objects.bulk_update([Document(pk=Document.objects.get().pk, file="")], ["file"]),
                id="bulk_update()",
            ),
        ],
    )
    @pytest.mark.parametrize("atomic", [True, False], ids=["in a transaction", "in autocommit"])
    def test_file_is_gone_after_the_commit_of(self, path: Path, change: Callable[[], Any], atomic: bool) -> None:
        if atomic:
            with transaction.atomic():
                change()
                there_before_the_commit = path.exists()
        else:
            change()
            there_before_the_commit = True

        assert there_before_the_commit
        assert not path.exists()
        assert settled() == [("docs/a.txt", "deleted")]
        assert pending() == []

    def test_file_of_a_save_that_replaces_it_is_gone(self, document: Document, path: Path) -> None:
        document.file = "docs/b.txt"
        document.save()

        assert not path.exists()

    def test_change_through_psycopg_itself_in_a_transaction_counts(self, path: Path) -> None:
        with transaction.atomic():
            connection.connection.execute("DELETE FROM project_document")

        assert not path.exists()

    def test_change_through_psycopg_itself_in_autocommit_is_done_with_the_next_statement(self, path: Path) -> None:
        connection.connection.execute("DELETE FROM project_document")

        Document.objects.exists()

        assert not path.exists()

    def test_procedure_of_the_database_counts(self, path: Path) -> None:
        run_sql("CREATE FUNCTION empty() RETURNS void LANGUAGE sql AS 'DELETE FROM public.project_document'")

        with transaction.atomic(), connection.cursor() as cursor:
            cursor.callproc("empty")
            cursor.execute("DROP FUNCTION empty()")

        assert not path.exists()

    def test_transaction_that_the_user_opened_by_hand_counts_when_it_is_committed(self, path: Path) -> None:
        run_sql("BEGIN")
        Document.objects.update(file="")
        there_before_the_commit = path.exists()
        run_sql("COMMIT")

        assert there_before_the_commit
        assert not path.exists()

    def test_returned_rows_of_a_statement_in_autocommit_are_the_callers(self, document: Document, path: Path) -> None:
        rows = run_sql("DELETE FROM project_document RETURNING id")

        assert rows == [(document.pk,)]
        assert not path.exists()

    def test_file_that_another_row_names_stays(self, path: Path) -> None:
        Attachment.objects.create(file="docs/a.txt")

        Document.objects.update(file="")

        assert path.exists()
        assert settled() == [("docs/a.txt", "kept")]

    def test_file_in_another_storage_goes_with_it(self, path: Path, settings: Any, tmp_path: Path) -> None:
        put("docs/b.txt", root=Path(Archive._meta.get_field("file").storage.location))
        archived = Archive.objects.create(file="docs/b.txt")

        with transaction.atomic():
            Document.objects.update(file="")
            archived.delete()

        assert settled() == [("docs/a.txt", "deleted"), ("docs/b.txt", "deleted")]

    def test_clients_that_silence_messages_are_told_all_the_same(self, path: Path) -> None:
        run_sql("SET client_min_messages = error")

        Document.objects.update(file="")

        assert not path.exists()

    def test_new_session_after_a_reconnect_is_asked_to_tell(self, path: Path) -> None:
        connection.close()

        Document.objects.update(file="")

        assert not path.exists()
        assert len(listeners(connection)) == 1

    def test_connection_made_within_an_execute_wrapper_of_the_users_leaves_theirs_in_place(self) -> None:
        connection.close()
        connection.execute_wrappers.clear()

        def theirs(execute: Any, *arguments: Any) -> Any:
            return execute(*arguments)

        with connection.execute_wrapper(theirs):
            Document.objects.exists()

        assert len(listeners(connection)) == 1
        assert theirs not in connection.execute_wrappers


class TestTransactions:
    """Only what is committed, and only once."""

    def test_rollback_leaves_the_file(self, path: Path) -> None:
        with transaction.atomic():
            Document.objects.update(file="")
            transaction.set_rollback(True)

        assert path.exists()
        assert settled() == []

    def test_savepoint_that_is_rolled_back_leaves_its_file_and_the_rest_is_deleted(
        self, path: Path, media_root: Path
    ) -> None:
        other = put("docs/b.txt")
        Attachment.objects.create(file="docs/b.txt")

        with transaction.atomic():
            with transaction.atomic():
                Document.objects.update(file="")
                transaction.set_rollback(True)
            Attachment.objects.update(file="")

        assert path.exists()
        assert not other.exists()

    def test_session_is_told_once_in_a_transaction(self, document: Document) -> None:
        with transaction.atomic(), told() as messages:
            for number in range(3):
                Document.objects.update(file=f"docs/{number}.txt")
            with transaction.atomic():
                Document.objects.all().delete()

        assert messages == ["PGC01"]

    def test_transaction_that_touched_no_file_costs_no_query_and_no_message(self, document: Document) -> None:
        with told() as messages, CaptureQueriesContext(connection) as queries, transaction.atomic():
            Document.objects.update(title="another")
            Document.objects.create(file="docs/new.txt")

        statements = [query["sql"].split()[0] for query in queries]
        assert messages == []
        assert [one for one in statements if one not in ("BEGIN", "COMMIT")] == ["UPDATE", "INSERT"]

    def test_row_that_gets_its_first_file_lets_no_name_go(self) -> None:
        empty = Document.objects.create(file="")

        with told() as messages:
            Document.objects.filter(pk=empty.pk).update(file="docs/first.txt")

        assert messages == []

    def test_file_waits_while_another_transaction_is_open_and_goes_with_a_later_commit(self, path: Path) -> None:
        later = Document.objects.create(file="docs/later.txt")
        with session(autocommit=False) as other:
            other.execute("SELECT 1")
            Document.objects.filter(file="docs/a.txt").update(file="")
            there_while_it_is_open = path.exists()
            other.rollback()

        later.delete()

        assert there_while_it_is_open
        assert not path.exists()

    def test_drain_itself_refuses_no_less_to_run_inside_a_transaction(self, path: Path) -> None:
        with transaction.atomic():
            Document.objects.update(file="")
            [(_, hook, _)] = connection.run_on_commit
            hook()
            there_before_the_commit = path.exists()

        assert there_before_the_commit
        assert not path.exists()

    def test_hook_that_runs_amid_a_transaction_opened_by_hand_asks_nothing_and_says_nothing(
        self, path: Path, caplog
    ) -> None:
        run_sql("BEGIN")

        drain_after_commit(weakref.ref(connections["default"]), 1)

        run_sql("ROLLBACK")
        assert caplog.text == ""

    def test_transaction_open_in_another_database_of_the_thread_is_waited_for(self, path: Path) -> None:
        with transaction.atomic(using="other"):
            run_sql("SELECT 1", using="other")
            Document.objects.update(file="")
            there_while_it_is_open = path.exists()

        assert there_while_it_is_open
        assert not path.exists()

    def test_each_database_drains_its_own_ledger(self, path: Path) -> None:
        there = put("docs/b.txt")
        Document.objects.using("other").create(file="docs/b.txt")

        with transaction.atomic(using="other"), transaction.atomic():
            Document.objects.update(file="")
            Document.objects.using("other").update(file="")

        assert not path.exists()
        assert not there.exists()
        assert settled() == [("docs/a.txt", "deleted")]
        assert settled(using="other") == [("docs/b.txt", "deleted")]

    def test_project_without_autocommit_is_left_alone(self, path: Path) -> None:
        transaction.set_autocommit(False)
        try:
            Document.objects.update(file="")
            transaction.commit()
        finally:
            transaction.set_autocommit(True)

        assert path.exists()
        assert pending() == ["docs/a.txt"]


class TestBounds:
    """A request does a bounded amount of work; the next drain does the rest."""

    def test_no_more_than_so_many_files_of_a_transaction_are_deleted(self, media_root: Path, monkeypatch) -> None:
        monkeypatch.setattr(after_commit, "OWN_FILES", 3)
        monkeypatch.setattr(after_commit, "OTHER_FILES", 0)
        names = [f"docs/{number}.txt" for number in range(5)]
        for name in names:
            put(name)
        Document.objects.bulk_create([Document(file=name) for name in names])

        Document.objects.all().delete()

        assert settled() == [(name, "deleted") for name in names[:3]]
        assert pending() == names[3:]

    def test_backlog_of_others_is_worked_off_in_small_parts_and_after_the_own_names(
        self, path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(after_commit, "OTHER_FILES", 2)
        others = [f"docs/{number}.txt" for number in range(5)]
        for name in others:
            put(name)
        with session() as other:
            for name in others:
                other.execute("INSERT INTO project_document (title, file) VALUES ('', %s)", [name])
            other.execute("DELETE FROM project_document WHERE file <> 'docs/a.txt'")
            other.execute(
                "WITH s AS (INSERT INTO file_deletion_stamp (fence) VALUES ('{}') RETURNING id) "
                "UPDATE pending_file_deletion SET stamp_id = s.id FROM s"
            )

        Document.objects.update(file="")

        assert sorted(settled("name")) == [("docs/0.txt",), ("docs/1.txt",), ("docs/a.txt",)]
        assert pending() == others[2:]

    def test_names_that_others_let_go_and_no_drain_has_seen_are_left_to_it(self, path: Path) -> None:
        with session() as other:
            other.execute("INSERT INTO project_document (title, file) VALUES ('', 'docs/b.txt')")
            other.execute("DELETE FROM project_document WHERE file = 'docs/b.txt'")

        Document.objects.update(file="")

        assert pending() == ["docs/b.txt"]

    def test_end_of_the_time_leaves_the_rest_between_two_files(self, monkeypatch, receive) -> None:
        for name in ("docs/1.txt", "docs/2.txt"):
            put(name)
            Document.objects.create(file=name)
        clock = SimpleNamespace(seconds=0.0)
        monkeypatch.setattr(after_commit, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
        receive(after=lambda **kwargs: setattr(clock, "seconds", after_commit.SECONDS))

        Document.objects.all().delete()

        assert settled() == [("docs/1.txt", "deleted")]
        assert pending() == ["docs/2.txt"]

    def test_table_that_is_locked_is_not_waited_for(self, path: Path, caplog) -> None:
        with session(autocommit=False) as other:
            other.execute("LOCK TABLE project_attachment IN ACCESS EXCLUSIVE MODE")
            with unfenced():
                Document.objects.update(file="")
            other.rollback()

        assert path.exists()
        assert pending() == ["docs/a.txt"]
        assert "could not be checked" in caplog.text or "lock timeout" in caplog.text

    def test_timeouts_of_its_transactions_are_short(self, path: Path, receive) -> None:
        seen: list[Any] = []
        receive(
            before=lambda **kwargs: seen.extend([*run_sql("SHOW lock_timeout"), *run_sql("SHOW statement_timeout")])
        )

        Document.objects.update(file="")

        assert seen == [("200ms",), ("1s",)]

    def test_stamp_that_no_entry_has_any_more_is_dropped(self, path: Path) -> None:
        Document.objects.update(file="")

        assert run_sql("SELECT count(*) FROM file_deletion_stamp") == [(0,)]

    def test_checks_that_hold_for_the_process_are_made_once(self, document: Document) -> None:
        Document.objects.update(file="docs/b.txt")

        with CaptureQueriesContext(connection) as queries:
            Document.objects.update(file="docs/c.txt")

        assert not [query for query in queries if "pg_trigger" in query["sql"]]


@contextmanager
def unfenced() -> Iterator[None]:
    """Let open transactions hold nothing back, so that it is their locks that are met."""
    role = run_sql("SELECT current_user::text")[0][0]
    with override_settings(PGCLEANUP_UNFENCED_ROLES=[role]):
        yield


class TestWhenNot:
    """What keeps a drain from deleting keeps this one, too."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PGCLEANUP_DRAIN_ON_COMMIT", False),
            ("PGCLEANUP_DELETE_FILES", False),
            ("PGCLEANUP_GRACE_PERIOD", timedelta(seconds=1)),
        ],
    )
    def test_setting_keeps_the_file_and_touches_no_entry(
        self, path: Path, settings: Any, name: str, value: Any
    ) -> None:
        setattr(settings, name, value)

        Document.objects.update(file="")

        assert path.exists()
        assert run_sql("SELECT count(*) FROM file_deletion_stamp") == [(0,)]

    def test_file_that_is_too_young_is_left_to_a_later_drain(self, path: Path, settings: Any) -> None:
        settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(days=1)

        Document.objects.update(file="")

        assert path.exists()
        assert pending() == ["docs/a.txt"]

    @pytest.mark.parametrize("warm", [True, False], ids=["after others", "from the first on"])
    def test_pause_keeps_the_file(self, path: Path, warm: bool) -> None:
        if warm:
            Document.objects.create(file="docs/none.txt").delete()
        control.pause("default", "somebody", "a move")
        try:
            Document.objects.filter(file="docs/a.txt").update(file="")
        finally:
            control.resume("default")

        assert path.exists()

    def test_database_that_is_a_copy_keeps_the_file_and_says_so_once(self, path: Path, caplog) -> None:
        Document.objects.create(file="docs/none.txt").delete()
        run_sql("UPDATE file_deletion_control SET database_oid = 1")
        connection.close()
        try:
            Document.objects.filter(file="docs/a.txt").update(file="docs/b.txt")
            Document.objects.filter(file="docs/b.txt").update(file="")
        finally:
            run_sql("DELETE FROM file_deletion_control")

        assert path.exists()
        assert caplog.text.count("is not the one that was drained before") == 1

    def test_storage_of_which_the_database_knows_other_columns_is_left_alone(self, path: Path, caplog) -> None:
        run_sql("DELETE FROM file_deletion_column WHERE source = 'project.attachment.file'")
        try:
            Document.objects.update(file="")
        finally:
            sync("default", triggers=False)

        assert path.exists()
        assert "project.attachment.file is unknown to the database" in caplog.text

    def test_names_that_wait_for_a_retry_are_left_to_the_next_drain(self, path: Path) -> None:
        put("docs/b.txt")
        with session() as other:
            other.execute("INSERT INTO project_document (title, file) VALUES ('', 'docs/b.txt')")
            other.execute("DELETE FROM project_document WHERE file = 'docs/b.txt'")
            other.execute(
                "WITH s AS (INSERT INTO file_deletion_stamp (fence) VALUES ('{}') RETURNING id) "
                "UPDATE pending_file_deletion SET stamp_id = s.id, attempts = 1, retry_at = now() FROM s"
            )

        Document.objects.update(file="")

        assert pending() == ["docs/b.txt"]
        assert not path.exists()


class TestCaller:
    """Nothing of it reaches the code that committed."""

    def test_error_of_the_database_is_logged_and_the_callers_transaction_stands(self, path: Path, caplog) -> None:
        run_sql("ALTER TABLE settled_file_deletion RENAME TO elsewhere")
        try:
            Document.objects.update(file="")
            after = Document.objects.get().file.name
        finally:
            run_sql("ALTER TABLE elsewhere RENAME TO settled_file_deletion")

        assert after == ""
        assert pending() == ["docs/a.txt"]
        assert "settled_file_deletion" in caplog.text

    def test_error_is_followed_by_a_rest_in_which_nothing_is_asked(self, path: Path) -> None:
        Known.forget("default")

        with CaptureQueriesContext(connection) as queries:
            Document.objects.update(file="")

        assert len(queries) == 1
        assert path.exists()

    def test_storage_that_fails_postpones_the_name_and_the_caller_goes_on(self, store) -> None:
        store(FailingStorage(), Document)
        Document.objects.create(file="docs/a.txt")

        Document.objects.update(file="")

        assert Document.objects.get().file.name == ""
        assert entries("name, attempts") == [("docs/a.txt", 1)]

    def test_session_that_dies_in_the_drain_is_replaced_and_the_caller_goes_on(
        self, path: Path, caplog, receive
    ) -> None:
        def kill(**kwargs: Any) -> None:
            with session() as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])

        receive(before=kill)

        Document.objects.update(file="")

        assert Document.objects.get().file.name == ""
        assert path.exists()
        assert "the database went away" in caplog.text

    def test_receiver_that_deletes_rows_has_their_files_left_to_the_next_drain(self, path: Path, receive) -> None:
        attached = put("docs/b.txt")
        Attachment.objects.create(file="docs/b.txt")

        def cascade(**kwargs: Any) -> None:
            Attachment.objects.all().delete()

        receive(before=cascade, sender=Document)

        Document.objects.update(file="")

        assert not path.exists()
        assert attached.exists()
        assert pending() == ["docs/b.txt"]

    def test_receiver_that_deletes_rows_during_a_scheduled_drain_starts_no_other_one_inside(
        self, settings, path: Path, receive
    ) -> None:
        settings.PGCLEANUP_DRAIN_ON_COMMIT = False
        Document.objects.update(file="")
        settings.PGCLEANUP_DRAIN_ON_COMMIT = True
        attached = put("docs/b.txt")
        Attachment.objects.create(file="docs/b.txt")
        receive(before=lambda **kwargs: Attachment.objects.all().delete())

        report = drain()

        assert report.counts == {Outcome.DELETED: 1}
        assert attached.exists()

    def test_receiver_that_deletes_rows_in_another_database_does_not_start_a_drain_there(
        self, path: Path, receive
    ) -> None:
        there = put("docs/b.txt")
        Document.objects.using("other").create(file="docs/b.txt")

        def cascade(**kwargs: Any) -> None:
            Document.objects.using("other").all().delete()

        receive(before=cascade)

        Document.objects.update(file="")

        assert there.exists()
        assert pending("other") == ["docs/b.txt"]

    def test_statement_that_fails_in_autocommit_raises_its_own_error(self, path: Path) -> None:
        with pytest.raises(Exception, match="division by zero"):
            run_sql("WITH gone AS (UPDATE project_document SET file = '' RETURNING 1) SELECT 1 / 0 FROM gone")

        assert path.exists()

    def test_hooks_of_others_run_although_the_drain_fails(self, path: Path, monkeypatch) -> None:
        monkeypatch.setattr(after_commit.AfterCommit, "finish", lambda self: 1 / 0)
        ran: list[str] = []

        with transaction.atomic():
            Document.objects.update(file="")
            transaction.on_commit(lambda: ran.append("theirs"))

        assert ran == ["theirs"]


class TestSwitchedOff:
    """Where the setting is off nothing is installed."""

    def test_connection_has_no_wrapper_and_the_session_is_not_asked(self, settings: Any) -> None:
        settings.PGCLEANUP_DRAIN_ON_COMMIT = False
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT current_setting('pgcleanup.notify', true)")
                [(asked,)] = cursor.fetchall()
        finally:
            other.close()

        assert asked in (None, "")
        assert listeners(other) == []

    def test_connection_that_the_project_made_by_itself_is_left_alone(self, path: Path) -> None:
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("UPDATE project_document SET file = ''")
        finally:
            other.close()

        assert path.exists()
        assert pending() == ["docs/a.txt"]

    def test_session_that_a_pooler_gave_to_somebody_else_leaves_the_file_to_the_next_drain(self, path: Path) -> None:
        run_sql("RESET ALL")

        Document.objects.update(file="")

        assert path.exists()
        assert drain().counts == {Outcome.DELETED: 1}

    def test_message_to_a_program_that_does_not_know_it_is_harmless(self, document: Document) -> None:
        with session() as other:
            other.execute("SET pgcleanup.notify = on")
            rows = other.execute("UPDATE project_document SET file = '' RETURNING id").fetchall()

        assert rows == [(document.pk,)]


def test_setting_that_makes_no_sense_breaks_no_connection(settings: Any) -> None:
    settings.PGCLEANUP_DRAIN_ON_COMMIT = "yes"
    connection.close()

    assert run_sql("SELECT 1") == [(1,)]
