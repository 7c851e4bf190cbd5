"""Receivers that raise, veto or write to the database: none breaks a drain, and a failing archiver keeps its file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models.fields.files import FieldFile

from pgcleanup.drain import drain
from pgcleanup.exceptions import ConnectionLost
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, end_retry_waits, entries, let_go, orphaned, pending, put, results, settled
from tests.project.models import Article, Attachment, Document


def raising(error: Exception, name: str | None = None):
    def receiver(file_name, **kwargs):
        if name in (None, file_name):
            raise error

    return receiver


def test_pre_receiver_that_raises_keeps_its_file_and_postpones_the_name_with_that_error(receive):
    receive(before=raising(OSError("the archive is full")))
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert report.exit_code == 1
    assert entries("attempts, last_error, retry_at > clock_timestamp()") == [(1, "OSError: the archive is full", True)]
    assert path.exists()


def test_pre_receiver_that_raises_for_one_name_does_not_stop_the_next(receive):
    receive(before=raising(ValueError("no"), "docs/a.txt"))
    kept, gone = orphaned("docs/a.txt"), orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1, Outcome.DELETED: 1}
    assert kept.exists()
    assert not gone.exists()


def test_file_goes_once_the_pre_receiver_no_longer_raises(receive):
    fail = [True]

    def receiver(**kwargs):
        if fail[0]:
            raise ValueError("not yet")

    receive(before=receiver)
    path = orphaned("docs/a.txt")
    drain()
    fail[0] = False
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert settled("attempts, last_error") == [(1, "ValueError: not yet")]
    assert not path.exists()


def test_post_receiver_that_raises_is_logged_and_changes_nothing(receive, caplog):
    receive(after=raising(ValueError("mail server down")))
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert report.exit_code == 0
    assert settled() == [("docs/a.txt", "deleted")]
    assert not path.exists()
    assert "docs/a.txt" in caplog.text
    assert "ValueError: mail server down" in caplog.text


def test_pre_receiver_that_takes_the_name_away_keeps_the_file_for_good(receive, heard):
    receive(before=lambda file, **kwargs: setattr(file, "name", None))
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled("outcome, reason") == [("kept", "cleanup_pre_delete")]
    assert path.exists()
    assert pending() == []


@pytest.mark.parametrize(
    "delete",
    [lambda file: file.delete(save=False), lambda file: file.storage.delete(file.name)],
    ids=["the file object", "the storage"],
)
def test_file_that_a_pre_receiver_deletes_itself_is_not_said_to_be_kept(receive, heard, delete):
    """The file object loses its name by that, as it does by a receiver that wants the file to stay."""
    receive(before=lambda file, **kwargs: delete(file))
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert settled("outcome, reason, bytes") == [("deleted", "deleted by a receiver", 7)]
    assert heard == [("pre", "docs/a.txt"), ("post", "docs/a.txt")]
    assert not path.exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_failing_statement_of_a_receiver_does_not_break_the_batch(receive, when):
    def receiver(file_name, **kwargs):
        if file_name == "docs/a.txt":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")

    receive(**{when: receiver})
    orphaned("docs/a.txt")
    orphaned("docs/b.txt")

    report = drain()

    outcome = Outcome.POSTPONED if when == "before" else Outcome.DELETED
    assert report.counts == ({outcome: 1, Outcome.DELETED: 1} if when == "before" else {Outcome.DELETED: 2})


def test_receiver_that_swallows_its_own_failing_statement_does_not_break_the_batch(receive):
    def receiver(file_name, **kwargs):
        if file_name == "docs/a.txt":
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1/0")
            except DatabaseError:
                pass

    receive(before=receiver)
    kept, gone = orphaned("docs/a.txt"), orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1, Outcome.DELETED: 1}
    assert kept.exists()
    assert not gone.exists()


def test_what_a_receiver_writes_is_committed_with_the_settlement(receive):
    receive(after=lambda file_name, **kwargs: Article.objects.create(picture=file_name))
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("settled")
    run.crash()
    after_crash = Article.objects.count()

    drain()

    assert after_crash == 0
    assert [article.picture for article in Article.objects.all()] == ["docs/a.txt"]


def test_what_a_failing_receiver_wrote_is_undone(receive):
    def receiver(file_name, **kwargs):
        Article.objects.create(picture=file_name)
        raise ValueError("after all")

    receive(before=receiver)
    orphaned("docs/a.txt")

    drain()

    assert not Article.objects.exists()


def test_hook_that_a_receiver_leaves_for_the_commit_runs_after_it(receive):
    seen = []
    receive(after=lambda **kwargs: transaction.on_commit(lambda: seen.append(pending())))
    orphaned("docs/a.txt")

    drain()

    assert seen == [[]]


def test_hook_that_raises_after_the_commit_is_logged_and_nothing_else(receive, caplog):
    def fail():
        raise ValueError("the task queue is down")

    receive(after=lambda **kwargs: transaction.on_commit(fail))
    orphaned("docs/a.txt")
    orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 2}
    assert "the task queue is down" in caplog.text


def test_receiver_may_let_another_file_go(receive):
    """A row that it deletes is recorded with the batch, and dealt with by the next drain."""
    put("docs/other.txt")

    def receiver(file_name, **kwargs):
        if file_name == "docs/a.txt":
            let_go("docs/other.txt")

    receive(after=receiver)
    orphaned("docs/a.txt")

    drain()

    assert pending() == ["docs/other.txt"]
    assert drain().counts == {Outcome.DELETED: 1}


def test_receiver_that_writes_the_name_back_is_too_late_and_known_to_be(receive):
    """The file goes although the receiver has just made a row with its name: that is what the veto is for."""
    receive(
        before=lambda file, file_name, **kwargs: (Document.objects.create(file=file_name), setattr(file, "name", None))
    )
    path = orphaned("docs/a.txt")

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_pre_receiver_that_raises_for_an_absent_file_postpones_the_name(receive):
    receive(before=raising(ValueError("no")))
    let_go("docs/a.txt")

    assert drain().counts == {Outcome.POSTPONED: 1}
    assert pending() == ["docs/a.txt"]


def test_receivers_hear_nothing_of_names_that_are_kept_left_or_rejected(heard, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    put("docs/kept.txt")
    Document.objects.create(file="docs/kept.txt")
    put("docs/young.txt", age=timedelta(0))
    let_go("docs/kept.txt", "docs/young.txt", "../rejected.txt")

    report, _ = results()

    assert report.counts == {Outcome.KEPT: 1, Outcome.REJECTED: 1}
    assert heard == []


@pytest.mark.parametrize("by_itself", [False, True], ids=["storage", "class of the field"])
def test_receiver_that_renames_what_it_was_told_of_leads_no_deletion_to_another_file(receive, monkeypatch, by_itself):
    """As an archiver may do, by mistake: the other name was neither let go nor checked."""

    class DeletesByItself(FieldFile):
        def delete(self, save: bool = True) -> None:
            super().delete(save)

    def rename(file, **kwargs):
        file.name = "archive/a.txt"

    if by_itself:
        monkeypatch.setattr(Document._meta.get_field("file"), "attr_class", DeletesByItself)
    receive(before=rename)
    path, other = orphaned("docs/a.txt"), put("archive/a.txt")

    drain()

    assert other.exists()
    assert not path.exists()
    assert settled() == [("docs/a.txt", "deleted")]


@pytest.fixture
def besides(monkeypatch):
    """Return a list that fills with what a class of a field of its own does besides deleting."""
    done = []

    class DeletesMore(FieldFile):
        def delete(self, save: bool = True) -> None:
            done.append(self.name)
            super().delete(save)

    monkeypatch.setattr(Document._meta.get_field("file"), "attr_class", DeletesMore)
    return done


def test_class_of_a_field_does_the_rest_where_a_receiver_has_deleted_the_file(receive, besides):
    receive(before=lambda file, **kwargs: file.storage.delete(file.name))
    orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert besides == ["docs/a.txt"]


def test_class_of_a_field_deletes_no_upload_that_takes_the_name_which_a_receiver_has_freed(
    receive, besides, monkeypatch
):
    deletes = Document._meta.get_field("file").attr_class.delete

    def upload_first(self, save: bool = True) -> None:
        put("docs/a.txt", b"an upload")
        deletes(self, save)

    monkeypatch.setattr(Document._meta.get_field("file").attr_class, "delete", upload_first)
    receive(before=lambda file, **kwargs: file.storage.delete(file.name))
    path = orphaned("docs/a.txt")

    drain()

    assert besides == ["docs/a.txt"]
    assert path.read_bytes() == b"an upload"


@pytest.mark.parametrize("error", [ValueError("no"), DatabaseError("no")], ids=repr)
def test_failure_of_the_class_of_a_field_changes_nothing_where_a_receiver_has_deleted_the_file(
    receive, monkeypatch, caplog, error
):
    class Fails(FieldFile):
        def delete(self, save: bool = True) -> None:
            raise error

    monkeypatch.setattr(Document._meta.get_field("file"), "attr_class", Fails)
    receive(before=lambda file, **kwargs: file.storage.delete(file.name))
    orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert settled("outcome, reason") == [("deleted", "deleted by a receiver")]
    assert "docs/a.txt is gone, but its field's class failed: no" in caplog.text


def test_dry_run_sends_no_signal(heard):
    orphaned("docs/a.txt")

    drain(dry_run=True)

    assert heard == []


@pytest.mark.parametrize("named", ["docs/a.txt", "docs/b.txt"], ids=["this file", "the next one"])
def test_file_that_a_receiver_names_in_a_row_is_kept(receive, named):
    """The row is written after the reference check, and is committed with what the drain did."""
    paths = {name: orphaned(name) for name in ("docs/a.txt", "docs/b.txt")}

    def name_it(file_name, **kwargs):
        if file_name == "docs/a.txt":
            Attachment.objects.create(file=named)

    receive(before=name_it)

    report = drain()

    assert report.counts == {Outcome.KEPT: 1, Outcome.DELETED: 1}
    assert paths[named].exists()
    assert Attachment.objects.get().file.name == named


@pytest.mark.parametrize("when", ["before", "after"])
def test_receiver_that_loses_the_connection_keeps_no_other_name_from_its_turn(receive, when, caplog):
    """As one that takes longer than PostgreSQL lets a session be idle in a transaction."""
    slow = orphaned("docs/0.txt")
    others = [orphaned(f"docs/{number}.txt") for number in range(1, 4)]

    def lose(file_name, **kwargs):
        if file_name == "docs/0.txt":
            connections["default"].connection.close()

    receive(**{when: lose})

    with pytest.raises(ConnectionLost):
        drain()
    report = drain()

    assert report.counts == {Outcome.DELETED: 3}
    assert not any(path.exists() for path in others)
    assert slow.exists() == (when == "before")
    [(attempts, error)] = entries("attempts, last_error")
    assert attempts == 1
    assert "the connection was lost while its receivers were at work" in error


def test_file_that_a_receiver_names_by_another_alias_of_the_database_is_kept(receive, alias):
    path = orphaned("docs/a.txt")
    other = alias("by another name")
    receive(before=lambda **kwargs: Attachment.objects.using(other).create(file="docs/a.txt"))

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_table_that_is_locked_is_not_waited_for_to_tell_whether_a_row_is_still_there(session, heard, quiet):
    """Its receivers get an instance that loads what it is asked for."""
    names = [f"docs/{number}.txt" for number in range(4)]
    for name in names:
        put(name)
    let_go(*names)
    run = Stepped()
    run.until("checked")
    locker = session().begin()
    locker.run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")

    report = run.finish()

    assert report.counts == {Outcome.DELETED: 4}
    assert len(heard) == 8
