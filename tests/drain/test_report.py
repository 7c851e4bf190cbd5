"""The numbers of a drain, its chores, and waiting for transactions."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pgcleanup import sql
from pgcleanup.cleanup import keep
from pgcleanup.drain import drain
from pgcleanup.ledger import state
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, let_go, orphaned, put, results, settled
from tests.project.models import Document
from tests.support import rewrite_history


def stamps() -> int:
    return sql.fetch("default", "SELECT count(*) FROM file_deletion_stamp")[0][0]


def test_empty_ledger_is_a_report_of_nothing():
    report = drain()

    assert (report.counts, report.waiting, report.bytes_deleted, report.problems) == ({}, {}, 0, ())
    assert report.exit_code == 0
    assert report.first_drain
    assert report.oldest_pending is None


def test_first_drain_is_the_one_before_anything_was_settled():
    orphaned("docs/a.txt")
    drain()

    assert not drain().first_drain


def test_report_counts_columns_and_tables_that_are_recorded():
    report = drain()

    assert report.columns >= 14
    assert 10 <= report.tables < report.columns


def test_history_holds_what_was_recorded_and_what_became_of_it(session):
    put("docs/a.txt", b"12345")
    application = session(application_name="the shop")
    application.name("docs/a.txt")
    (key,) = application.run("SELECT id FROM project_document")[0]
    application.run("DELETE FROM project_document")

    drain()

    columns = "source, name, object_pk, operation, db_user, application_name, attempts, outcome, bytes"
    assert settled(columns) == [
        ("project.document.file", "docs/a.txt", str(key), "DELETE", "postgres", "the shop", 0, "deleted", 5)
    ]
    times = settled("recorded_at <= stamped_at, stamped_at <= settled_at, drained_by <> ''")
    assert times == [(True, True, True)]


def test_settled_entry_keeps_the_id_it_had_in_the_ledger():
    orphaned("docs/a.txt")
    (entry,) = sql.fetch("default", "SELECT id FROM pending_file_deletion")[0]

    drain()

    assert settled("id") == [(entry,)]


def test_keep_settles_as_kept():
    path = put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    with keep():
        row.delete()

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled("outcome, reason") == [("kept", "keep()")]
    assert path.exists()


def test_cancelled_name_settles_as_cancelled():
    path = orphaned("docs/a.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET cancelled_at = clock_timestamp()")

    report = drain()

    assert report.counts == {Outcome.CANCELLED: 1}
    assert settled("outcome, cancelled_at IS NOT NULL") == [("cancelled", True)]
    assert path.exists()


def test_one_cancelled_entry_keeps_the_file_of_all_entries_of_its_name():
    path = put("docs/a.txt")
    let_go("docs/a.txt", "docs/a.txt")
    sql.execute(
        "default",
        "UPDATE pending_file_deletion SET cancelled_at = now() WHERE id = (SELECT min(id) FROM pending_file_deletion)",
    )

    drain()

    assert settled("outcome") == [("cancelled",), ("cancelled",)]
    assert path.exists()


def test_stamps_are_deleted_with_the_last_of_their_entries():
    orphaned("docs/a.txt")

    drain()

    assert stamps() == 0


def test_stamps_of_waiting_entries_stay(session):
    holder = session().begin()
    orphaned("docs/a.txt")
    drain()
    drain()
    while_waiting = stamps()
    holder.commit()

    drain()

    assert while_waiting == 1
    assert stamps() == 0


def test_stamps_of_entries_that_wait_for_a_retry_or_failed_stay():
    let_go("docs/a.txt", "docs/b.txt")
    Stepped().until("stamped")
    sql.execute(
        "default",
        """UPDATE pending_file_deletion SET retry_at = now() + interval '1 hour', attempts = 1,
                  exhausted_at = CASE name WHEN 'docs/b.txt' THEN now() END""",
    )

    report = drain()

    assert report.waiting == {"retrying": 1, "failed": 1}
    assert stamps() == 1


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (timedelta(days=30), ["docs/new.txt"]),
        (timedelta(days=400), ["docs/old.txt", "docs/new.txt"]),
        (None, ["docs/old.txt", "docs/new.txt"]),
    ],
    ids=["beyond retention", "within retention", "for ever"],
)
def test_history_is_pruned_by_its_retention(settings, retention, left):
    settings.PGCLEANUP_HISTORY_RETENTION = retention
    orphaned("docs/old.txt")
    drain()
    rewrite_history("UPDATE settled_file_deletion SET settled_at = settled_at - interval '365 days'")
    orphaned("docs/new.txt")

    drain()

    assert [name for name, _ in settled()] == left


def test_wait_lets_a_short_transaction_end(session):
    holder = session().begin()
    path = orphaned("docs/a.txt")
    timer = threading.Timer(0.3, holder.commit)
    timer.start()

    report = drain(wait=timedelta(seconds=20))
    timer.join()

    assert report.counts == {Outcome.DELETED: 1}
    assert report.seconds < 10
    assert not path.exists()


def test_wait_is_no_longer_than_it_was_given(session):
    session().begin()
    orphaned("docs/a.txt")

    report = drain(wait=timedelta(seconds=0.2))

    assert report.waiting == {"transaction": 1}
    assert 0.2 <= report.seconds < 5


def test_wait_does_not_wait_for_the_grace_period(settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    orphaned("docs/a.txt")

    report = drain(wait=timedelta(seconds=20))

    assert report.seconds < 5


def test_wait_ends_with_the_limit(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("stamped")
    session().begin()
    orphaned("docs/b.txt")
    run.crash()

    report = drain(limit=1, wait=timedelta(seconds=3))

    assert report.counts == {Outcome.DELETED: 1}
    assert report.seconds < 2


def test_progress_hears_of_a_name_once_its_batch_is_committed(session):
    seen = []
    looker = session()
    orphaned("docs/a.txt")

    drain(progress=lambda result: seen.append(looker.run("SELECT count(*) FROM settled_file_deletion")[0][0]))

    assert seen == [1]


def test_progress_tells_source_name_outcome_and_size():
    orphaned("docs/a.txt", b"12345")

    _, heard = results()

    result = heard["docs/a.txt"]
    assert (result.source, result.name, result.outcome, result.waiting, result.bytes) == (
        *("project.document.file", "docs/a.txt"),
        *(Outcome.DELETED, None, 5),
    )


def test_report_is_made_with_the_timeouts_of_a_drain_and_not_of_its_role(alias, monkeypatch):
    """Those of a role may be meant for requests."""
    hurried = alias("hurried", OPTIONS={"options": "-c statement_timeout=200ms"})
    orphaned("docs/a.txt")
    monkeypatch.setattr(state, "_IS_LARGE", "SELECT pg_sleep(0.4) IS NULL")

    assert drain(using=hurried).counts == {Outcome.DELETED: 1}


def test_large_ledger_is_not_counted_to_its_end(monkeypatch):
    monkeypatch.setattr(state, "LOOKED_AT", 3)
    names = [f"docs/{number}.txt" for number in range(5)]
    let_go(*names)

    report = drain(grace_period=timedelta(hours=1))

    assert not report.waiting_complete
    assert report.waiting == {"grace_period": 5}
