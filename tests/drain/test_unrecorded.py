"""Rows that no trigger records may name a file, too: of ignored and excluded models, and extra references.

When such a row goes, nothing tells of it: a transaction that has read its name stands in no fence.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.drain.report import Holder
from pgcleanup.ledger import fence
from pgcleanup.management.output.waiting import held_lines
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, age_stamps, agree, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Archive, Article, Document, Ignored
from tests.support import run_sql

NAME = "docs/a.txt"
READ = "SELECT file FROM project_ignored"
DELETE = "DELETE FROM project_ignored"

beside = pytest.mark.usefixtures("ignored_beside")


@pytest.fixture(autouse=True)
def _waiting(settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)


def past_grace(name: str = NAME):
    """Let a name go that a drain saw two hours ago."""
    path = orphaned(name)
    drain()
    age_stamps(timedelta(hours=2))
    return path


@beside
def test_name_that_a_transaction_has_read_in_a_row_of_an_ignored_model_is_not_deleted(session):
    Ignored.objects.create(file=NAME)
    path = past_grace()
    carrier = session().begin()
    [(name,)] = carrier.run(READ)
    session().run(DELETE)

    first = drain()
    carrier.name(name)
    carrier.commit()
    last = drain()

    assert path.exists()
    assert first.counts == {}
    assert first.waiting == {"transaction": 1}
    assert last.counts == {Outcome.KEPT: 1}


def test_name_that_a_transaction_has_read_in_an_extra_reference_is_not_deleted(session, settings):
    settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]
    agree()
    Article.objects.create(picture=NAME)
    path = past_grace()
    carrier = session().begin()
    [(name,)] = carrier.run("SELECT picture FROM project_article")
    session().run("UPDATE project_article SET picture = ''")

    drain()
    carrier.name(name)
    carrier.commit()
    drain()

    assert path.exists()


def test_name_that_a_transaction_has_read_where_the_trigger_is_missing_is_not_deleted(session):
    Document.objects.create(file=NAME)
    path = past_grace()
    run_sql("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_del")
    try:
        carrier = session().begin()
        [(name,)] = carrier.run("SELECT file FROM project_document")
        session().run("DELETE FROM project_document")

        drain()
        carrier.name(name)
        carrier.commit()
        drain()
    finally:
        run_sql("ALTER TABLE project_document ENABLE TRIGGER pgcleanup_del")

    assert path.exists()


@beside
def test_transaction_that_ends_between_the_check_and_the_look_at_open_ones_is_seen_by_the_second_check(session):
    Ignored.objects.create(file=NAME)
    path = past_grace()
    carrier = session().begin()
    [(name,)] = carrier.run(READ)
    session().run(DELETE)
    run = Stepped(grace=timedelta(hours=1))
    run.until("checked")

    carrier.name(name)
    carrier.commit()
    report = run.finish()

    assert path.exists()
    assert report.counts == {Outcome.KEPT: 1}


@beside
def test_file_goes_at_once_where_no_transaction_is_open():
    path = past_grace()

    report = drain()

    assert not path.exists()
    assert report.counts == {Outcome.DELETED: 1}


@beside
def test_file_goes_once_the_transactions_that_were_open_have_ended(session):
    path = past_grace()
    idle = session().begin()
    idle.run("SELECT 1")
    drain()
    seen = settled_or_pending_stamp()

    while_open = drain()
    idle.rollback()
    after = drain()

    assert while_open.waiting == {"transaction": 1}
    assert after.counts == {Outcome.DELETED: 1}
    assert not path.exists()
    assert settled("stamped_at") == [seen]


def settled_or_pending_stamp():
    return sql.fetch("default", "SELECT stamped_at FROM file_deletion_stamp")[0]


@beside
def test_later_transactions_hold_a_name_back_no_longer(session):
    """Else a busy database would keep its files for ever."""
    path = past_grace()
    first, later = session().begin(), session()
    first.run("SELECT 1")
    drain()
    later.begin().run("SELECT 1")
    first.rollback()

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


@beside
def test_name_that_is_let_go_again_meanwhile_begins_anew(session):
    path = past_grace()
    idle = session().begin()
    idle.run("SELECT 1")
    drain()
    let_go(NAME)
    idle.rollback()

    report = drain()

    assert report.counts == {}
    assert path.exists()
    assert pending() == [NAME, NAME]


@beside
def test_wait_is_no_attempt(session):
    past_grace()
    session().begin().run("SELECT 1")

    drain()

    assert entries("attempts, retry_at, last_error") == [(0, None, "")]


def test_storage_whose_rows_are_all_recorded_needs_no_second_look(session, settings, store):
    """As are those of this one, which has a single column."""
    root = Path(f"{settings.MEDIA_ROOT}-archive")
    store(FileSystemStorage(root), Archive)
    path = put("a.txt", root=root)
    let_go("a.txt", model=Archive)
    drain()
    age_stamps(timedelta(hours=2))
    session().begin().run("SELECT 1")

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


@beside
def test_name_that_is_let_go_again_and_seen_meanwhile_begins_anew(session):
    """A newer entry has waited for nobody who read it in a row that no trigger records."""
    path = past_grace()
    idle = session().begin()
    idle.run("SELECT 1")
    drain()
    let_go(NAME)
    drain()
    Ignored.objects.create(file=NAME)
    age_stamps(timedelta(hours=2))
    idle.rollback()
    carrier = session().begin()
    [(name,)] = carrier.run(READ)
    session().run(DELETE)

    drain()
    carrier.name(name)
    carrier.commit()
    drain()

    assert path.exists()


@pytest.fixture
def began_late(session, ignored_beside):
    """Let a name wait anew, two hours after it was seen first, for a transaction that has only just begun."""
    past_grace()
    carrier = session().begin()
    carrier.run("SELECT 1")
    return carrier


def test_transaction_that_began_after_the_names_were_seen_is_as_old_as_it_is(began_late):
    report = drain()

    [holder] = report.holders
    assert holder.pid == began_late.pid
    assert timedelta(0) < holder.at_least < timedelta(minutes=10)


def test_age_of_such_a_transaction_is_not_told_where_the_role_may_not_see_it(began_late, alias, role):
    drain()
    plain = alias("plain", USER=role["user"], PASSWORD=role["password"])

    [(pid, user, application, at_least, _)] = fence.holders(plain, timedelta(hours=1))

    assert (pid, at_least) == (began_late.pid, timedelta(0))
    [line, *_] = held_lines([Holder(pid, user, application, at_least)], [], 1)
    assert line.text.endswith(", open since a moment that is not known")


def test_age_counts_from_the_stamp_where_the_role_may_not_see_it(session, alias, role):
    carrier = session().begin()
    orphaned(NAME)
    drain()
    age_stamps(timedelta(hours=2))
    plain = alias("plain", USER=role["user"], PASSWORD=role["password"])

    [(pid, *_, at_least, _)] = fence.holders(plain, timedelta(hours=1))

    assert pid == carrier.pid
    assert at_least >= timedelta(hours=2)
