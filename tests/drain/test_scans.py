"""Large tables without an index: names wait for company, so that a trickle does not scan them all day."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections, transaction

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, age_stamps, let_go, orphaned, pending
from tests.project.models import Archive, Document
from tests.storages import MemoryStorage


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Take every table with a row for a large one, but for the small ones of other models."""
    monkeypatch.setattr("pgcleanup.references.scans.LARGE_TABLE_BYTES", 100_000)
    Document.objects.bulk_create(
        [Document(title="x" * 90, file=f"x/{number}", thumb=f"x/{number}") for number in range(1_000)]
    )


def test_few_names_wait_for_company_and_the_report_says_which_index_would_help():
    path = orphaned("docs/a.txt")

    report = drain()

    assert report.counts == {}
    assert report.waiting == {"scan": 1}
    assert "project.document.file" in report.scans[0]
    assert 'CREATE INDEX CONCURRENTLY ON "project_document" USING hash ("file")' in report.scans[0]
    assert report.exit_code == 0
    assert path.exists()


def test_column_with_an_index_needs_no_scan():
    report = drain()

    assert not any("project.document.thumb" in advice for advice in report.scans)


def test_oldest_name_does_not_wait_longer_than_the_interval(settings):
    settings.PGCLEANUP_SCAN_INTERVAL = timedelta(hours=1)
    path = orphaned("docs/a.txt")
    Stepped().until("stamped")
    age_stamps(timedelta(hours=1))

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_many_names_do_not_wait(monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.scans.WORTH_A_SCAN", 20)
    let_go(*(f"docs/{number}.txt" for number in range(20)))

    assert drain(accept_absent=True).counts == {Outcome.ABSENT: 20}


def test_interval_of_nought_never_waits(settings):
    settings.PGCLEANUP_SCAN_INTERVAL = timedelta(0)
    orphaned("docs/a.txt")

    assert drain().counts == {Outcome.DELETED: 1}


def test_other_storages_do_not_wait(store):
    storage = store(MemoryStorage(), Archive)
    storage.put("docs/a.txt")
    let_go("docs/a.txt", model=Archive)
    orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert pending() == ["docs/b.txt"]


def test_dry_run_tells_its_plan_when_asked_for_details():
    orphaned("docs/a.txt")

    lines = printed("drain_deletions", "--dry-run", verbosity=2)

    (plan,) = [line for line in lines if line.startswith("Plan for ") and "/media)" in line]
    assert plan.endswith(": batches of up to 10,000 names, up to 16 files a call.")
    assert all("up to 10,000 names" in line for line in lines if line.startswith("Plan for ")), "of all storages"
    (by_index,) = [line for line in lines if line.strip().startswith("project.document.thumb ")]
    assert "by its index" in by_index
    scanned = next(number for number, line in enumerate(lines) if line.strip().startswith("project.document.file "))
    assert "reads the whole table" in lines[scanned]
    assert lines[scanned + 1].strip() == (
        'An index helps: CREATE INDEX CONCURRENTLY ON "project_document" USING hash ("file")'
    )


def test_dry_run_without_details_tells_no_plan():
    orphaned("docs/a.txt")

    assert not [line for line in printed("drain_deletions", "--dry-run") if line.startswith("Plan for ")]


def test_check_of_the_database_recommends_the_index_that_would_help():
    found = [message for message in run_checks(databases=["default"]) if message.id == "pgcleanup.I001"]

    (of_file,) = [message for message in found if message.msg.startswith("project.document.file ")]
    assert of_file.hint == 'CREATE INDEX CONCURRENTLY ON "project_document" USING hash ("file");'
    assert not [message for message in found if "project.document.thumb" in message.msg]


def test_check_of_a_locked_table_is_silent_and_does_not_wait_long(alias, monkeypatch):
    monkeypatch.setattr("pgcleanup.references.scans.SIZE_LOCK_TIMEOUT", "100ms")
    other = alias("other_session")
    with transaction.atomic(using=other), connections[other].cursor() as cursor:
        cursor.execute("LOCK TABLE project_document")

        assert not [message for message in run_checks(databases=["default"]) if message.id == "pgcleanup.I001"]


def printed(*arguments, **options):
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue().splitlines()
