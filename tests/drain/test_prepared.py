"""Prepared transactions have left the list of open ones, and their writes are yet to come."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, let_go, orphaned, pending, put, results
from tests.project.models import Document

GID = f"pgcleanup test {os.getpid()}"


@pytest.fixture
def prepared(session):
    """Make a session whose transaction writes the name and is prepared; end it after the test if it is still there."""
    ender = session()
    yield session
    if ender.run("SELECT 1 FROM pg_prepared_xacts WHERE gid = %s", GID):
        ender.run(f"ROLLBACK PREPARED '{GID}'")


def test_nothing_is_deleted_while_a_transaction_is_prepared(prepared):
    path = put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    carrier = prepared().begin()
    (name,) = carrier.run("SELECT file FROM project_document")[0]
    row.delete()
    drain()
    carrier.name(name)
    carrier.run(f"PREPARE TRANSACTION '{GID}'")

    report = drain()
    carrier.run(f"COMMIT PREPARED '{GID}'")

    assert report.counts == {}
    assert report.prepared == (f"{GID} of postgres",)
    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_files_go_once_the_prepared_transaction_is_rolled_back(prepared):
    carrier = prepared().begin()
    path = orphaned("docs/a.txt")
    drain()
    carrier.name("docs/b.txt")
    carrier.run(f"PREPARE TRANSACTION '{GID}'")
    drain()
    carrier.run(f"ROLLBACK PREPARED '{GID}'")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert report.prepared == ()
    assert not path.exists()


def test_prepared_transaction_of_another_database_holds_nothing(session):
    other = session("other").begin()
    other.name("docs/b.txt")
    other.run(f"PREPARE TRANSACTION '{GID}'")
    orphaned("docs/a.txt")

    report = drain()
    other.run(f"ROLLBACK PREPARED '{GID}'")

    assert report.counts == {Outcome.DELETED: 1}


def test_transaction_that_is_prepared_after_the_look_for_prepared_ones_still_counts(prepared):
    """The look comes after the fence was found clear. Before it, this PREPARE would fall between the two."""
    path = put("docs/a.txt")
    let_go("docs/a.txt")
    drain(dry_run=True)
    row = Document.objects.create(file="docs/a.txt")
    first = Stepped()
    first.until("stamped")
    carrier = prepared().begin()
    (name,) = carrier.run("SELECT file FROM project_document")[0]
    row.delete()
    run = Stepped()

    for step in run.steps:
        if step == "found nothing prepared" and carrier.is_open:
            carrier.name(name)
            carrier.run(f"PREPARE TRANSACTION '{GID}'")
    if carrier.is_open:
        carrier.name(name)
        carrier.run(f"PREPARE TRANSACTION '{GID}'")
    carrier.run(f"COMMIT PREPARED '{GID}'")

    assert path.exists()
    assert pending() == ["docs/a.txt", "docs/a.txt"]


def test_drain_can_wait_for_a_prepared_transaction_to_end(prepared):
    carrier = prepared().begin()
    carrier.name("docs/b.txt")
    carrier.run(f"PREPARE TRANSACTION '{GID}'")
    path = orphaned("docs/a.txt")
    run = Stepped(wait=timedelta(seconds=20))
    run.until("waited")
    carrier.run(f"ROLLBACK PREPARED '{GID}'")
    report = run.finish()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_dry_run_says_that_nothing_would_be_deleted(prepared):
    orphaned("docs/a.txt")
    drain(grace_period=timedelta(hours=1))
    carrier = prepared().begin()
    carrier.name("docs/b.txt")
    carrier.run(f"PREPARE TRANSACTION '{GID}'")

    report, forecast = results(dry_run=True)

    assert report.counts == {}
    assert report.prepared == (f"{GID} of postgres",)
    assert (forecast["docs/a.txt"].waiting, forecast["docs/a.txt"].detail) == (
        "transaction",
        "held by a prepared transaction",
    )
