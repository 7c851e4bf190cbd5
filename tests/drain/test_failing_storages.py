"""Storages that raise: one name's trouble is its own, a storage that is down costs no attempts, nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import end_retry_waits, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Archive, Document
from tests.storages import AgelessStorage, FailingStorage, MemoryStorage

NAMES = [f"docs/{number}.txt" for number in range(8)]


def filled(storage: MemoryStorage, *names: str) -> MemoryStorage:
    for name in names or NAMES:
        storage.put(name)
    return storage


@pytest.mark.parametrize("method", ["exists", "delete"])
def test_storage_that_raises_for_one_name_postpones_it_and_goes_on(store, method):
    storage = store(filled(FailingStorage(names=["docs/3.txt"], method=method)), Document)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.DELETED: 7, Outcome.POSTPONED: 1}
    assert report.exit_code == 1
    assert list(storage.files) == ["docs/3.txt"]
    assert entries("name, attempts, last_error") == [("docs/3.txt", 1, "ConnectionError: no route to the bucket")]
    assert report.errors[0].error == "ConnectionError: no route to the bucket"
    assert report.errors[0].example == "docs/3.txt"


def test_first_name_that_raises_does_not_make_a_storage_down(store):
    store(filled(FailingStorage(names=["docs/0.txt"])), Document)
    let_go(*NAMES)

    assert drain().counts == {Outcome.DELETED: 7, Outcome.POSTPONED: 1}


@pytest.mark.parametrize(
    ("method", "says"), [("exists", "does not answer"), ("delete", "lets no file be deleted")], ids=["look", "delete"]
)
def test_storage_that_raises_for_every_name_is_down_and_costs_no_attempt(store, method, says):
    storage = store(filled(FailingStorage(method=method)), Document)
    let_go(*NAMES)

    report = drain()

    assert report.exit_code == 1
    assert says in report.problems[0]
    assert {attempts for (attempts,) in entries("attempts")} == {0}
    assert pending() == NAMES
    assert len(storage.files) == 8


def test_storage_that_is_down_is_not_asked_for_every_name(store):
    storage = store(FailingStorage(), Document)
    let_go(*(f"docs/{number}.txt" for number in range(50)))

    drain()

    assert len(storage.calls) < 10


def test_other_storages_go_on_while_one_is_down(store):
    store(FailingStorage(), Document)
    healthy = store(filled(MemoryStorage()), Archive)
    let_go(*NAMES)
    let_go(*NAMES, model=Archive)

    report = drain()

    assert report.counts[Outcome.DELETED] == 8
    assert healthy.files == {}
    assert settled("source") == [("project.archive.file",)] * 8
    assert pending() == NAMES


def test_files_go_once_the_storage_is_up_again(store):
    storage = store(filled(FailingStorage()), Document)
    let_go(*NAMES)
    drain()
    storage.broken = False
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.DELETED: 8}
    assert storage.files == {}


def test_attempts_are_counted_until_none_is_left(store, settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 3
    store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    counts = []

    for _ in range(4):
        counts.append(drain().counts)
        end_retry_waits()

    assert counts == [{Outcome.POSTPONED: 1}, {Outcome.POSTPONED: 1}, {Outcome.EXHAUSTED: 1}, {}]
    assert entries("attempts, exhausted_at IS NOT NULL") == [(3, True)]
    report = drain()
    assert report.waiting == {"failed": 1}
    assert report.exit_code == 1
    assert report.errors[0].failed


def test_exhausted_name_is_tried_again_with_the_next_row_that_lets_it_go(store, settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 1
    storage = store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    drain()
    storage.broken = False
    let_go("docs/0.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert pending() == []


def test_exhausted_name_does_not_count_for_the_age(store, settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 1
    store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    drain()

    assert drain().oldest_pending is None


@pytest.mark.parametrize(
    ("failures", "least"), [(1, 30), (2, 60), (3, 120), (9, 7_680), (10, 15_360), (11, 21_600), (30, 21_600)]
)
def test_wait_for_a_retry_doubles_from_half_a_minute_to_six_hours_with_jitter(store, settings, failures, least):
    settings.PGCLEANUP_MAX_ATTEMPTS = 100
    store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET attempts = %s", [failures - 1])

    drain()

    wait = sql.fetch(
        "default", "SELECT extract(epoch FROM retry_at - clock_timestamp())::float FROM pending_file_deletion"
    )
    assert least - 5 <= wait[0][0] <= least * 1.5


def test_names_of_one_outage_do_not_all_come_back_in_one_moment(store):
    store(filled(FailingStorage(names=NAMES[1:], method="delete")), Document)
    let_go(*NAMES)

    drain()

    assert len({retry_at for (retry_at,) in entries("retry_at")}) == 7


def test_name_is_not_tried_again_before_its_wait_is_over(store):
    storage = store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    drain()
    calls = len(storage.calls)

    report = drain()

    assert len(storage.calls) == calls
    assert report.waiting == {"retrying": 1}


def test_name_that_another_row_takes_between_a_failure_and_its_retry_is_kept(store):
    storage = store(filled(FailingStorage(names=["docs/0.txt"], method="delete")), Document)
    let_go("docs/0.txt")
    drain()
    Document.objects.create(file="docs/0.txt")
    storage.broken = False
    end_retry_waits()

    assert drain().counts == {Outcome.KEPT: 1}
    assert list(storage.files) == NAMES


def test_storage_that_cannot_tell_a_files_age_or_size_is_drained_all_the_same(store, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    storage = store(AgelessStorage(), Document)
    storage.put("docs/a.txt", age=timedelta(0))
    let_go("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert settled("outcome, bytes") == [("deleted", None)]


def test_forbidden_answer_of_an_s3_like_storage_costs_no_attempt_and_gives_a_hint(store):
    class ClientError(Exception):
        response = {"ResponseMetadata": {"HTTPStatusCode": 403}}

    store(filled(FailingStorage(names=["docs/0.txt"], error=lambda: ClientError("403 Forbidden"))), Document)
    let_go("docs/0.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert entries("attempts") == [(0,)]
    assert "s3:ListBucket" in entries("last_error")[0][0]


def test_error_of_many_lines_and_pages_is_cut(store):
    store(filled(FailingStorage(names=["docs/0.txt"], error=lambda: ValueError("x" * 100_000))), Document)
    let_go("docs/0.txt")

    drain()

    assert len(entries("last_error")[0][0]) == 2_000


def test_real_error_of_the_file_system_is_this_names_alone(media_root: Path):
    """A link in a circle: the system refuses to look, also for root."""
    (media_root / "circle").symlink_to(media_root / "circle")
    path = put("docs/a.txt")
    let_go("circle/a.txt", "docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1, Outcome.DELETED: 1}
    assert "symbolic links" in entries("last_error")[0][0]
    assert not path.exists()


@pytest.fixture
def unprivileged(media_root: Path) -> Iterator[None]:
    """Let file system rights count, also where the tests are run as root."""
    if os.geteuid() != 0:
        yield
        return
    for folder in [media_root, *media_root.parents][:-2]:
        if not os.stat(folder).st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_folder_that_may_not_be_written_to_postpones_its_files(media_root: Path, request):
    path = orphaned("docs/a.txt")
    path.parent.chmod(0o555)
    media_root.chmod(0o755)
    request.getfixturevalue("unprivileged")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "PermissionError" in entries("last_error")[0][0]
    assert path.exists()


def test_folder_that_may_not_be_looked_into_postpones_its_files(media_root: Path, request):
    path = orphaned("docs/a.txt")
    path.parent.chmod(0o000)
    media_root.chmod(0o755)
    request.getfixturevalue("unprivileged")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "PermissionError" in entries("last_error")[0][0]
