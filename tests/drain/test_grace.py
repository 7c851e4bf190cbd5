"""The grace period: for names that are carried outside a transaction. It counts from when the release was seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import age_stamps, orphaned, pending, put
from tests.project.models import Document

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def an_hour_of_grace(settings):
    settings.PGCLEANUP_GRACE_PERIOD = HOUR


def test_first_drain_deletes_nothing_and_says_when_it_will():
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {}
    assert report.waiting == {"grace_period": 1}
    assert [name for name, _ in report.first_names] == ["docs/a.txt"]
    assert report.next_due == report.first_names[0][1]
    assert path.exists()


def test_grace_counts_from_when_the_entry_was_seen_not_from_when_it_was_recorded():
    path = orphaned("docs/a.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET recorded_at = recorded_at - interval '1 year'")

    report = drain()

    assert report.waiting == {"grace_period": 1}
    assert path.exists()


def test_writer_that_commits_late_has_not_used_up_the_grace_period(session):
    """A reader that began after the delete, and before its commit, saves a stale name later."""
    path = put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    writer = session().begin()
    writer.run("DELETE FROM project_document")
    writer.run("UPDATE pending_file_deletion SET recorded_at = recorded_at - interval '2 hours'")
    stale = Document.objects.get()
    writer.commit()

    drain()
    Document.objects.create(file=stale.file)
    age_stamps(HOUR)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_file_is_deleted_once_the_grace_period_is_over():
    path = orphaned("docs/a.txt")
    drain()
    age_stamps(HOUR)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_file_stays_one_moment_before_the_grace_period_is_over():
    path = orphaned("docs/a.txt")
    drain()
    age_stamps(HOUR - timedelta(seconds=30))

    assert drain().waiting == {"grace_period": 1}
    assert path.exists()


def test_stale_instance_saved_within_the_grace_period_keeps_its_file():
    path = put("docs/a.txt")
    stale = Document.objects.create(file="docs/a.txt")
    Document.objects.update(file="")
    drain()

    stale.save()
    age_stamps(HOUR)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_argument_takes_the_place_of_the_setting(monkeypatch):
    # With one database: where two share a storage, the setting is the least that counts.
    monkeypatch.setattr("pgcleanup.drain.elsewhere.references.concerns", lambda *arguments: False)
    orphaned("docs/a.txt")

    assert drain(grace_period=timedelta(0)).counts == {Outcome.DELETED: 1}


def test_argument_below_the_setting_does_not_count_where_another_database_uses_the_storage():
    path = orphaned("docs/a.txt")

    report = drain(grace_period=timedelta(0))

    assert report.waiting == {"grace_period": 1}
    assert path.exists()


def test_fence_holds_a_name_beyond_the_grace_period(session):
    path = put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    reader = session().begin()
    (name,) = reader.run("SELECT file FROM project_document")[0]
    row.delete()
    drain()
    age_stamps(10 * HOUR)

    report = drain()
    reader.name(name)
    reader.commit()

    assert report.waiting == {"transaction": 1}
    assert report.holders[0].at_least >= 10 * HOUR
    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_entry_recorded_while_another_of_the_name_waits_is_not_seen_earlier_for_it():
    orphaned("docs/a.txt")
    drain()
    age_stamps(HOUR)
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {}
    assert pending() == ["docs/a.txt", "docs/a.txt"]
    assert path.exists()


def test_name_whose_entries_wait_for_different_things_is_counted_once():
    orphaned("docs/a.txt")
    drain()
    age_stamps(HOUR)
    orphaned("docs/a.txt")

    report = drain()

    assert sum(report.waiting.values()) == 1


def test_age_is_how_long_the_oldest_name_is_past_its_grace_period():
    orphaned("docs/a.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET recorded_at = clock_timestamp() - interval '3 hours'")

    report = drain()

    assert timedelta(hours=2) <= report.oldest_pending < timedelta(hours=2, minutes=1)


def test_age_is_nought_within_the_grace_period_and_none_where_nothing_is_pending():
    assert drain().oldest_pending is None

    orphaned("docs/a.txt")

    assert drain().oldest_pending == timedelta(0)
