"""A drain may die at any moment. Nothing is lost, and nothing that was written again meanwhile goes."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connections

from pgcleanup import references
from pgcleanup.drain import Run, drain
from pgcleanup.exceptions import ConnectionLost
from pgcleanup.models import Outcome
from tests.drain.support import NOW, Stepped, end_retry_waits, let_go, orphaned, pending, put, settled
from tests.project.models import Document
from tests.storages import MemoryStorage, SlowStorage

WINDOW = timedelta(seconds=60)


@pytest.fixture
def crashed():
    """Return a function that lets a drain crash right after it deleted its first file."""

    def crash_after_the_delete():
        run = Stepped()
        run.until("deleted")
        run.crash()

    return crash_after_the_delete


def test_next_drain_settles_as_absent_what_a_crash_left_and_tells_both_receivers(crashed, heard):
    path = orphaned("docs/a.txt")
    crashed()
    assert not path.exists()
    assert pending() == ["docs/a.txt"]
    del heard[:]

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1}
    assert heard == [("pre", "docs/a.txt"), ("post", "docs/a.txt")]
    assert settled() == [("docs/a.txt", "absent")]


def test_absent_file_is_settled_without_calling_delete(store):
    storage = store(MemoryStorage(), Document)
    let_go("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1}
    assert storage.called("delete") == []


def test_upload_that_took_the_free_name_after_a_crash_is_not_deleted_before_its_row_is_committed(
    crashed, session, settings
):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    orphaned("docs/a.txt")
    crashed()
    path = put("docs/a.txt", b"new", age=timedelta(seconds=1))
    uploader = session()

    # The uploader's transaction begins only now: it is in no fence.
    report = drain()
    uploader.name("docs/a.txt")
    end_retry_waits()

    assert report.counts == {}
    assert report.waiting == {"upload_window": 1}
    assert drain().counts == {Outcome.KEPT: 1}
    assert path.read_bytes() == b"new"


def test_upload_whose_row_never_came_goes_once_the_upload_window_is_over(crashed, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    orphaned("docs/a.txt")
    crashed()
    path = put("docs/a.txt", age=timedelta(seconds=1))
    drain()
    put("docs/a.txt", age=timedelta(seconds=61))
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_file_overwritten_while_its_name_was_pending_is_left(store, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    storage = store(MemoryStorage(), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")
    storage.put("docs/a.txt", b"new", age=timedelta(seconds=5))

    report = drain()

    assert report.waiting == {"upload_window": 1}
    assert storage.called("delete") == []
    assert storage.files["docs/a.txt"][0] == b"new"


def test_grace_period_of_nought_leaves_the_upload_window_as_it_is(settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    path = put("docs/a.txt", age=timedelta(seconds=1))
    let_go("docs/a.txt")

    assert drain(grace_period=timedelta(0)).waiting == {"upload_window": 1}
    assert path.exists()


@pytest.mark.parametrize("step", ["stamped", "claimed", "checked", "looked", "told before", "deleted", "settled"])
def test_crash_after_any_step_loses_nothing(step, heard):
    paths = [orphaned(f"docs/{number}.txt") for number in range(3)]
    run = Stepped()
    run.until(step)
    run.crash()
    assert len(pending()) == 3

    report = drain()

    assert sum(report.counts.values()) == 3
    assert set(report.counts) <= {Outcome.DELETED, Outcome.ABSENT}
    assert {name for _, name in heard} == {f"docs/{number}.txt" for number in range(3)}
    assert pending() == []
    assert not any(path.exists() for path in paths)


def test_crash_between_two_batches_undoes_nothing(monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 2)
    for number in range(3):
        orphaned(f"docs/{number}.txt")
    run = Stepped()
    run.until("committed")

    run.crash()

    assert settled() == [("docs/0.txt", "deleted"), ("docs/1.txt", "deleted")]
    assert pending() == ["docs/2.txt"]


def test_drain_that_lost_its_connection_touches_no_file_any_more(store, session):
    storage = store(MemoryStorage(), Document)
    for number in range(3):
        storage.put(f"docs/{number}.txt")
    let_go(*storage.files)
    run = Stepped()
    run.until("deleted")
    before = list(storage.calls)

    _terminate(session)
    with pytest.raises(ConnectionLost, match=r"went away.*Nothing is lost"):
        run.finish()

    assert storage.calls == before
    assert len(pending()) == 3
    assert drain().counts == {Outcome.ABSENT: 1, Outcome.DELETED: 2}


def test_connection_that_goes_while_a_storage_looks_for_a_file_keeps_it_from_being_deleted(store, session):
    class Interrupted(MemoryStorage):
        def exists(self, name):
            _terminate(session)
            return super().exists(name)

    storage = store(Interrupted(), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")

    with pytest.raises(ConnectionLost):
        drain()

    assert storage.called("delete") == []


def test_connection_that_goes_while_a_receiver_works_keeps_the_file_from_being_deleted(store, session, receive):
    storage = store(MemoryStorage(), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")
    receive(before=lambda **kwargs: _terminate(session))

    with pytest.raises(ConnectionLost):
        drain()

    assert storage.called("delete") == []
    assert pending() == ["docs/a.txt"]


def test_connection_that_goes_before_the_first_batch_is_reported_the_same_way(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("stamped")

    _terminate(session)

    with pytest.raises(ConnectionLost):
        run.finish()


def test_drain_after_a_lost_connection_opens_a_new_one(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("claimed")
    _terminate(session)
    with pytest.raises(ConnectionLost):
        run.finish()

    assert drain().counts == {Outcome.DELETED: 1}


def test_batch_ends_when_its_time_is_up_and_goes_on_with_the_rest(store, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.batch.BATCH_SECONDS", 0.05)
    monkeypatch.setattr("pgcleanup.drain.batch.CHECK_SHARE", 0)
    storage = store(SlowStorage(seconds=0.02), Document)
    for number in range(8):
        storage.put(f"docs/{number}.txt")
    let_go(*storage.files)

    steps = list(Run("default", grace=NOW).steps())

    assert steps.count("committed") >= 3
    assert steps.count("deleted") == 8
    assert pending() == []


def test_storage_that_does_not_get_through_a_batch_gets_smaller_ones_and_then_larger_ones_again(store, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.batch.BATCH_SECONDS", 0.05)
    monkeypatch.setattr("pgcleanup.drain.batch.CHECK_SHARE", 0)
    storage = store(SlowStorage(seconds=0.02), Document)
    for number in range(40):
        storage.put(f"docs/{number:02}.txt")
    let_go(*storage.files)
    asked: list[int] = []
    check = references.check
    monkeypatch.setattr(references, "check", lambda *values: (asked.append(len(values[3])), check(*values))[1])

    run = Stepped()
    run.until("committed")
    run.until("committed")
    storage.seconds = 0
    run.finish()

    first, second, third, fourth, *_ = asked
    assert first == 40
    assert second < 20
    assert fourth == 2 * third < 40


def test_check_that_takes_longer_than_a_batch_may_last_does_not_keep_files_from_being_deleted(monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.batch.BATCH_SECONDS", 0.1)
    monkeypatch.setattr("pgcleanup.drain.batch.SLOWEST", 0.1)
    path = orphaned("docs/a.txt")
    check = references.check
    monkeypatch.setattr(references, "check", lambda *arguments: (time.sleep(0.2), check(*arguments))[1])
    run = Stepped()

    for _ in range(30):
        next(run.steps, None)

    assert not path.exists()


def _terminate(session) -> None:
    """Kill the server process of the drain's connection, and wait until it is gone."""
    pid = connections["default"].connection.info.backend_pid
    ender = session()
    ender.run("SELECT pg_terminate_backend(%s, 5000)", pid)
