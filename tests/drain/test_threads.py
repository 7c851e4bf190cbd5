"""Storages that answer slowly are asked in many threads, and no thread does what the drain itself may not."""

from __future__ import annotations

import threading
import time

import pytest
from django.core.files.storage import FileSystemStorage, InMemoryStorage, Storage
from django.db import connections

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.storages import GenericAdapter, LocalAdapter, SerialAdapter, adapter_for, register
from pgcleanup.storages.one_by_one import THREADS
from pgcleanup.testing import drain_now
from tests.drain.support import Stepped, end_retry_waits, entries, let_go, pending, results
from tests.project.models import Document
from tests.storages import CountingFiles, MemoryStorage
from tests.support import run_sql, until

NAMES = [f"docs/{number:03}.txt" for number in range(100)]


class Remote(MemoryStorage):
    """Takes its time, and notes how many calls it had at the same time, and in which threads."""

    def __init__(self, location: str = "remote", seconds: float = 0.01) -> None:
        super().__init__(location)
        self.seconds = seconds
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.threads: set[str] = set()

    def _take_time(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1

    def exists(self, name: str) -> bool:
        self._take_time()
        return super().exists(name)

    def delete(self, name: str) -> None:
        self._take_time()
        super().delete(name)


register(Remote, GenericAdapter)


@pytest.fixture
def remote(store) -> Remote:
    storage: Remote = store(Remote(), Document)
    for name in NAMES:
        storage.put(name)
    let_go(*NAMES)
    return storage


def test_many_files_are_looked_at_and_deleted_at_the_same_time(remote):
    report = drain()

    assert report.counts == {Outcome.DELETED: 100}
    assert remote.most == THREADS
    assert sorted(remote.called("delete")) == NAMES


def test_each_file_has_its_signals_in_the_drains_own_thread(remote, receive):
    heard: list[tuple[str, str]] = []
    threads = set()

    def hear(kind: str, file_name: str) -> None:
        heard.append((kind, file_name))
        threads.add(threading.current_thread())

    receive(
        before=lambda **sent: hear("pre", sent["file_name"]),
        after=lambda **sent: hear("post", sent["file_name"]),
    )

    drain()

    assert sorted(heard) == sorted([("pre", name) for name in NAMES] + [("post", name) for name in NAMES])
    assert threads == {threading.current_thread()}
    assert heard.index(("post", NAMES[50])) > heard.index(("pre", NAMES[50]))


def test_files_that_fail_are_told_apart_from_those_that_go(remote):
    failing = set(NAMES[10:13])

    def delete(name: str) -> None:
        if name in failing:
            raise ConnectionError("reset by peer")
        MemoryStorage.delete(remote, name)

    remote.delete = delete

    report, told = results()

    assert report.counts == {Outcome.DELETED: 97, Outcome.POSTPONED: 3}
    assert {name for name, result in told.items() if result.outcome is Outcome.POSTPONED} == failing
    assert sorted(pending()) == sorted(failing)


def test_storage_where_nothing_works_is_not_asked_for_every_name(remote):
    calls = []

    def exists(name: str) -> bool:
        calls.append(name)
        raise ConnectionError("no route")

    remote.exists = exists

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 100}
    assert len(calls) < 4 * THREADS
    assert {attempts for (attempts,) in entries("attempts")} == {0}
    del remote.exists
    end_retry_waits()
    assert drain().counts == {Outcome.DELETED: 100}


def test_drain_that_is_told_to_stop_begins_no_further_call(store):
    storage = store(Remote(), Document)
    names = [f"docs/{number:04}.txt" for number in range(400)]
    for name in names:
        storage.put(name)
    let_go(*names)

    # Among those that come together after the first ones, which are no more than there are threads.
    report = drain(stop=lambda: len(storage.called("delete")) > THREADS + 5)

    assert report.stopped
    assert 0 < len(storage.called("delete")) < 400
    assert sorted(pending()) == sorted(storage.files)
    assert set(entries("attempts")) == {(0,)}


def test_connection_that_is_lost_after_the_looks_keeps_every_file(remote, session):
    run = Stepped()
    run.until("looked")
    session().run("SELECT pg_terminate_backend(%s)", run.run.context.session.info.backend_pid)

    with pytest.raises(Exception, match="went away"):
        run.finish()

    assert sorted(remote.files) == NAMES


class InTheDatabase(Remote):
    """Asks a database about each file."""

    def exists(self, name: str) -> bool:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        return super().exists(name)


def test_connections_that_a_storage_opens_in_threads_are_closed(store):
    storage = store(InTheDatabase("database"), Document)
    for name in NAMES:
        storage.put(name)
    let_go(*NAMES)
    counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    before = run_sql(counted)

    assert drain().counts == {Outcome.DELETED: 100}
    until(lambda: run_sql(counted) <= before)


def test_drain_in_the_transaction_of_a_test_stays_in_its_thread(remote):
    drained = drain_now()

    assert len(drained.deleted) == 100
    assert remote.threads == {threading.current_thread().name}


def test_names_are_asked_for_together_in_growing_numbers_while_the_storage_is_fast(remote, settings):
    sizes = []
    adapter_class = GenericAdapter

    class Counting(adapter_class):
        def look_many(self, names):
            sizes.append(len(names))
            return super().look_many(names)

    register(Remote, Counting)
    try:
        drain()
    finally:
        register(Remote, adapter_class)

    assert sizes[0] == THREADS
    assert sum(sizes) == 100
    assert sizes[1] > THREADS


class TestChoice:
    """Which storages are asked in threads."""

    class Unknown(Storage):
        """Of a library that nobody has heard of."""

    class Inherited(FileSystemStorage):
        """Changes nothing that matters here."""

        def url(self, name: str | None) -> str:
            return f"/elsewhere/{name}"

    @pytest.mark.parametrize(
        ("storage", "adapter"),
        [
            (FileSystemStorage(), LocalAdapter),
            (Inherited(), LocalAdapter),
            (CountingFiles(), SerialAdapter),
            (InMemoryStorage(), SerialAdapter),
            (Unknown(), GenericAdapter),
        ],
        ids=["disk", "disk, derived", "disk, in its own way", "memory", "unknown"],
    )
    def test_adapter_fits_the_storage(self, storage, adapter):
        assert type(adapter_for(storage)) is adapter

    @pytest.mark.parametrize("name", ["storages.backends.ftp.FTPStorage", "storages.backends.sftpstorage.SFTPStorage"])
    def test_storage_with_a_single_connection_is_asked_by_one_thread(self, name):
        module, _, qualname = name.rpartition(".")
        kind = type(qualname, (Storage,), {"__module__": module})

        assert type(adapter_for(kind())) is SerialAdapter

    def test_class_that_overrides_what_an_adapter_stands_in_for_keeps_its_own_way(self):
        class Registered(GenericAdapter):
            stands_in_for = ("delete",)

        class Mine(Storage):
            def delete(self, name: str) -> None:
                pass

        class Derived(Mine):
            pass

        class Own(Mine):
            def delete(self, name: str) -> None:
                pass

        register(Mine, Registered)

        assert type(adapter_for(Derived())) is Registered
        assert type(adapter_for(Own())) is GenericAdapter


def test_adapter_that_says_nothing_of_any_name_is_a_storage_that_fails(store):
    class Silent(SerialAdapter):
        def look_many(self, names):
            return {}

    class Odd(MemoryStorage):
        pass

    register(Odd, Silent)
    storage = store(Odd("odd"), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "said nothing about any of 1 names" in report.errors[0].error
    assert "docs/a.txt" in storage.files
