"""A dry run says what would become of each name, due or not, and changes nothing."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from pgcleanup import sql
from pgcleanup.cleanup import keep
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, age_stamps, let_go, orphaned, pending, put, results
from tests.project.models import Document
from tests.storages import FailingStorage, MemoryStorage

TABLES = (
    "pending_file_deletion",
    "settled_file_deletion",
    "file_deletion_stamp",
    "file_deletion_column",
    "project_document",
)


def everything() -> list[list[tuple]]:
    return [sql.fetch("default", f"SELECT t.*, xmin::text FROM {table} t ORDER BY 1") for table in TABLES]


def one_of_each() -> None:
    put("docs/kept.txt")
    Document.objects.create(file="docs/kept.txt")
    put("docs/deleted.txt", b"12345")
    put("docs/young.txt", age=timedelta(0))
    put("docs/folder/inside.txt")
    let_go("docs/kept.txt", "docs/deleted.txt", "docs/young.txt", "docs/absent.txt", "../rejected.txt", "docs/folder")


@pytest.mark.parametrize("stamped", [False, True], ids=["not seen yet", "seen before"])
def test_nothing_is_changed(stamped, settings, media_root):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    one_of_each()
    if stamped:
        Stepped().until("stamped")
    before, files = everything(), sorted(media_root.rglob("*"))

    drain(dry_run=True)

    assert everything() == before
    assert sorted(media_root.rglob("*")) == files


@pytest.mark.parametrize("deletes", [False, True], ids=["may delete nothing", "dry run"])
def test_files_that_are_too_young_are_counted_as_the_drain_would_count_them(settings, deletes):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    settings.PGCLEANUP_DELETE_FILES = deletes
    for name in ("a", "b"):
        put(name, age=timedelta(0))
    put("old")
    let_go("a", "b", "old")
    Stepped().until("stamped")

    forecast = drain(dry_run=deletes)
    settings.PGCLEANUP_DELETE_FILES = True
    done = drain()

    assert forecast.waiting == {"due": 1, "upload_window": 2}
    assert (forecast.counts, done.waiting) == (done.counts, {"upload_window": 2})
    assert drain(dry_run=True).waiting == done.waiting


def test_file_that_is_too_young_within_its_grace_period_waits_for_that(settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(hours=2)
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    put("a", age=timedelta(0))
    let_go("a")

    assert drain(dry_run=True).waiting == {"grace_period": 1}


def test_outcome_of_each_name_is_what_the_drain_then_does(settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    one_of_each()

    report, forecast = results(dry_run=True)
    _, done = results()

    def without_age(one):
        return one.outcome, one.waiting, re.sub(r"written \d+ s ago", "written lately", one.detail), one.bytes

    assert {name: without_age(one) for name, one in forecast.items()} == {
        name: without_age(one) for name, one in done.items()
    }
    assert report.dry_run
    assert report.counts == {Outcome.KEPT: 1, Outcome.DELETED: 1, Outcome.ABSENT: 1, Outcome.REJECTED: 2}
    assert report.bytes_deleted == 5


def test_names_that_are_not_due_are_told_with_their_time(settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    orphaned("docs/seen.txt")
    Stepped().until("stamped")
    orphaned("docs/not-seen.txt")

    report, forecast = results(dry_run=True)

    now = datetime.now(timezone.utc)
    assert {one.outcome for one in forecast.values()} == {Outcome.DELETED}
    for one in forecast.values():
        assert timedelta(minutes=59) < one.due_at - now <= timedelta(hours=1)
    assert report.waiting == {"grace_period": 2}


def test_name_that_is_due_is_told_without_a_time(settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    orphaned("docs/a.txt")
    Stepped().until("stamped")
    age_stamps(timedelta(hours=1))

    _, forecast = results(dry_run=True)

    assert forecast["docs/a.txt"].due_at is None


def test_name_that_an_open_transaction_holds_is_told_to_wait_for_it(session):
    session().begin()
    orphaned("docs/a.txt")
    Stepped().until("stamped")

    _, forecast = results(dry_run=True)

    assert forecast["docs/a.txt"].waiting == "transaction"


def test_name_without_an_attempt_left_is_told_to_have_failed():
    orphaned("docs/a.txt")
    Stepped().until("stamped")
    sql.execute("default", "UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10")

    report, forecast = results(dry_run=True)

    assert forecast["docs/a.txt"].waiting == "failed"
    assert report.exit_code == 1


def test_name_that_is_kept_by_keep_is_told_so():
    put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    with keep():
        row.delete()

    _, forecast = results(dry_run=True)
    _, done = results()

    assert forecast["docs/a.txt"].outcome is done["docs/a.txt"].outcome is Outcome.KEPT


def test_storage_that_raises_is_told_for_its_name(store):
    storage = store(FailingStorage(names=["docs/a.txt"]), Document)
    storage.put("docs/b.txt")
    let_go("docs/a.txt", "docs/b.txt")

    _, forecast = results(dry_run=True)

    assert forecast["docs/a.txt"].outcome is Outcome.POSTPONED
    assert forecast["docs/b.txt"].outcome is Outcome.DELETED


def test_name_with_more_entries_than_a_page_is_told_once():
    put("docs/a.txt")
    let_go(*["docs/a.txt"] * 2_300)

    report, forecast = results(dry_run=True)

    assert report.counts == {Outcome.DELETED: 1}
    assert list(forecast) == ["docs/a.txt"]


def test_limit_counts_names():
    let_go(*["docs/a.txt"] * 3, *["docs/b.txt"] * 3, *["docs/c.txt"] * 3)

    report, forecast = results(dry_run=True, limit=2)

    assert list(forecast) == ["docs/a.txt", "docs/b.txt"]
    assert report.counts == {Outcome.ABSENT: 2}


def test_dry_run_waits_for_no_other_drain_and_stands_in_nobodys_way(alias):
    orphaned("docs/a.txt")
    run = Stepped(alias("second"))
    run.until("claimed")

    report = drain(dry_run=True)

    assert report.counts == {Outcome.DELETED: 1}
    assert run.finish().counts == {Outcome.DELETED: 1}


class TestDeleteFilesIsFalse:
    """A trial month, or a staging copy that shares a bucket: record, look, report, delete nothing."""

    @pytest.fixture(autouse=True)
    def off(self, settings):
        settings.PGCLEANUP_DELETE_FILES = False

    def test_nothing_is_deleted_settled_or_told(self, heard):
        path = orphaned("docs/a.txt")

        drain()

        assert path.exists()
        assert pending() == ["docs/a.txt"]
        assert heard == []

    def test_report_says_by_itself_that_nothing_was_deleted(self):
        orphaned("docs/a.txt", b"12345")

        report = drain()

        assert not report.deletes

    def test_report_says_what_would_go(self):
        orphaned("docs/a.txt", b"12345")

        report = drain()

        assert report.counts == {Outcome.DELETED: 1}
        assert report.bytes_deleted == 5
        assert sum(report.waiting.values()) == 1
        assert report.exit_code == 0

    def test_entries_are_seen_so_that_their_grace_period_runs(self, settings):
        settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
        path = orphaned("docs/a.txt")

        report = drain()
        age_stamps(timedelta(hours=1))
        settings.PGCLEANUP_DELETE_FILES = True

        assert report.counts == {}
        assert report.waiting == {"grace_period": 1}
        assert drain().counts == {Outcome.DELETED: 1}
        assert not path.exists()

    def test_storage_is_never_asked_to_delete(self, store):
        storage = store(MemoryStorage(), Document)
        storage.put("docs/a.txt")
        let_go("docs/a.txt")

        drain()

        assert storage.called("delete") == []
