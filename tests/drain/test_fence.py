"""A name waits for every transaction that was open when it was seen let go: one of them may know the name."""

from __future__ import annotations

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, let_go, orphaned, pending, put, settled
from tests.project.models import Document

ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.mark.parametrize("isolation", ISOLATION_LEVELS)
def test_name_that_an_open_transaction_has_read_waits_and_is_kept_when_it_writes_the_name_back(session, isolation):
    path = put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    reader = session().begin(isolation)
    (name,) = reader.run("SELECT file FROM project_document")[0]
    row.delete()

    while_open = drain()
    reader.name(name)
    reader.commit()
    afterwards = drain()

    assert while_open.waiting == {"transaction": 1}
    assert while_open.counts == {}
    assert afterwards.counts == {Outcome.KEPT: 1}
    assert path.exists()


@pytest.mark.parametrize("isolation", ISOLATION_LEVELS)
def test_name_is_deleted_once_the_open_transaction_ends_without_writing_it_back(session, isolation):
    reader = session().begin(isolation)
    path = orphaned("docs/a.txt")
    drain()

    reader.rollback()
    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_transaction_that_ran_no_statement_yet_holds_a_name_too(session):
    session().begin()
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.waiting == {"transaction": 1}
    assert path.exists()


def test_rollback_to_a_savepoint_does_not_make_a_transaction_forget_the_name_it_read(session):
    path = put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    reader = session().begin()
    reader.run("SAVEPOINT before")
    (name,) = reader.run("SELECT file FROM project_document")[0]
    reader.run("ROLLBACK TO SAVEPOINT before")
    row.delete()

    drain()
    reader.name(name)
    reader.commit()

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_transaction_that_began_after_the_name_was_seen_let_go_holds_nothing(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("stamped")
    session().begin().run("SELECT 1")

    report = run.finish()

    assert report.counts == {Outcome.DELETED: 1}


def test_overlapping_transactions_do_not_hold_a_name_for_ever(session):
    first = session().begin()
    orphaned("docs/a.txt")
    drain()
    second = session().begin()
    second.run("SELECT 1")
    first.commit()

    report = drain()

    assert second.is_open
    assert report.counts == {Outcome.DELETED: 1}


def test_transaction_in_another_database_of_the_server_holds_nothing(session):
    session("other").begin().run("SELECT 1")
    orphaned("docs/a.txt")

    assert drain().counts == {Outcome.DELETED: 1}


def test_names_let_go_before_and_after_a_transaction_began_wait_apart(session):
    orphaned("docs/before.txt")
    run = Stepped()
    run.until("stamped")
    session().begin()
    orphaned("docs/after.txt")
    run.finish()

    report = drain()

    assert settled() == [("docs/before.txt", "deleted")]
    assert pending() == ["docs/after.txt"]
    assert report.waiting == {"transaction": 1}


def test_report_names_the_transaction_that_holds_a_name(session):
    holder = session(application_name="nightly report").begin()
    orphaned("docs/a.txt")

    report = drain()

    assert [(one.pid, one.application) for one in report.holders] == [(holder.pid, "nightly report")]
    assert report.holders[0].at_least.total_seconds() >= 0


def test_open_transaction_of_an_unfenced_role_holds_nothing(session, settings, role):
    settings.PGCLEANUP_UNFENCED_ROLES = [role["user"]]
    session(**role).begin().run("SELECT 1")
    orphaned("docs/a.txt")

    assert drain().counts == {Outcome.DELETED: 1}


def test_open_transaction_of_a_role_that_is_not_named_unfenced_holds_its_names(session, settings, role):
    settings.PGCLEANUP_UNFENCED_ROLES = ["somebody_else"]
    session(**role).begin().run("SELECT 1")
    orphaned("docs/a.txt")

    assert drain().waiting == {"transaction": 1}


def test_entry_is_seen_committed_before_the_open_transactions_are_noted(session):
    """A transaction that reads the name just before the delete commits stands in the fence."""
    path = put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    writer = session().begin()
    writer.run("DELETE FROM project_document")
    reader = session().begin()
    (name,) = reader.run("SELECT file FROM project_document")[0]
    writer.commit()

    drain()
    reader.name(name)
    reader.commit()
    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_uncommitted_entry_is_no_entry(session):
    path = put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    writer = session().begin()
    writer.run("DELETE FROM project_document")

    report = drain()
    writer.rollback()

    assert report.counts == {}
    assert report.waiting == {}
    assert drain().counts == {}
    assert path.exists()


def test_kept_name_is_settled_with_the_source_that_still_names_it():
    put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    let_go("docs/a.txt")

    drain()

    assert settled("name, outcome, reason") == [("docs/a.txt", "kept", "project.document.file")]
