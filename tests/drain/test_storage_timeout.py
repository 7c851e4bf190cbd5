"""A storage call that hangs: the command ends, and the call with it. No drain hangs for hours, nothing goes later."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connections

from pgcleanup.drain import drain
from pgcleanup.drain.deadline import Call, Calls, Deadline
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, agree, end_retry_waits, entries, let_go, orphaned, pending, put
from tests.project import database_url
from tests.project.models import Archive, Document, Ignored
from tests.storages import MemoryStorage
from tests.support import manage, with_settings

NAMES = ["docs/before.txt", "docs/hang.txt", "docs/after.txt"]


@pytest.fixture
def environment(media_root: Path, tmp_path: Path) -> dict[str, str]:
    """Return that of a process whose default storage hangs, and gives up after half a second."""
    agree()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url.render(connections["default"].settings_dict),
        "OTHER_DATABASE_URL": database_url.render(connections["other"].settings_dict),
        "PGCLEANUP_TEST_MEDIA": str(media_root),
    }
    (tmp_path / "archive").mkdir()
    hanging = {"BACKEND": "tests.storages.HangingFiles"}
    archive = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "archive")},
    }
    static = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    return with_settings(
        environment,
        tmp_path,
        STORAGES={"default": hanging, "archive": archive, "staticfiles": static},
        PGCLEANUP_STORAGE_TIMEOUT=timedelta(seconds=0.5),
        PGCLEANUP_GRACE_PERIOD=timedelta(0),
        PGCLEANUP_UPLOAD_WINDOW=timedelta(0),
    )


def command(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Drain in a process of its own, and wait until the server has carried out what it left behind."""
    done = manage(environment, "drain_deletions", *options, check=False)
    limit = time.monotonic() + 20
    while time.monotonic() < limit and not any(row[0] for row in entries("attempts > 0")):
        time.sleep(0.01)
    return done


def test_command_ends_with_one_where_a_deletion_hangs_and_the_deletion_ends_with_it(environment, media_root: Path):
    paths = [put(name) for name in NAMES]
    let_go(*NAMES)

    done = command(environment)
    (media_root.parent / "go").touch()

    assert done.returncode == 1
    assert "has not answered for 0.5 s (PGCLEANUP_STORAGE_TIMEOUT), asked to delete docs/hang.txt" in done.stderr
    assert "Nothing is lost" in done.stderr
    assert (media_root.parent / "hangs").exists()
    assert paths[1].exists()
    assert pending() == NAMES


def test_name_that_hung_has_an_attempt_less_and_the_others_of_its_batch_do_not(environment):
    for name in NAMES:
        put(name)
    let_go(*NAMES)

    command(environment)

    assert entries("name, attempts") == [(NAMES[0], 0), (NAMES[1], 1), (NAMES[2], 0)]
    assert {left_alone for (left_alone,) in entries("retry_at > clock_timestamp()")} == {True}
    assert all("has not answered" in error for (error,) in entries("last_error"))
    assert entries("last_error")[1][0].startswith("StorageHung: ")


def test_next_drains_settle_all_once_the_storage_answers(environment):
    paths = [put(name) for name in NAMES]
    let_go(*NAMES)
    command(environment)
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1, Outcome.DELETED: 2}
    assert report.exit_code == 0
    assert not any(path.exists() for path in paths)


def test_one_object_says_that_it_hung(environment):
    orphaned("docs/hang.txt")

    done = command(environment, "--json")

    printed = json.loads(done.stdout)
    assert printed["exit_code"] == done.returncode == 1
    assert "docs/hang.txt" in printed["error"]


def test_storage_that_hangs_keeps_no_other_from_being_drained_the_next_time(environment, tmp_path, store):
    for name in NAMES:
        put(name)
    let_go(*NAMES)
    command(environment)
    end_retry_waits()
    archived = put("a.txt", root=tmp_path / "archive")
    for model in (Archive, Ignored):
        store(FileSystemStorage(tmp_path / "archive"), model)
    let_go("docs/hang too.txt")
    put("docs/hang too.txt")
    let_go("a.txt", model=Archive)

    done = command(environment)

    assert done.returncode == 1
    assert not archived.exists()


def test_drain_that_is_called_by_a_program_says_so_and_waits(store, settings):
    """Its process is not ours to end."""
    settings.PGCLEANUP_STORAGE_TIMEOUT = timedelta(seconds=0.05)
    said = threading.Event()
    records: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            said.set()

    class Waits(MemoryStorage):
        def exists(self, name: str) -> bool:
            return said.wait(20) and super().exists(name)

    storage = store(Waits(), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")
    listener = Listener(logging.ERROR)
    logging.getLogger("pgcleanup.drain").addHandler(listener)
    try:
        report = drain()
    finally:
        logging.getLogger("pgcleanup.drain").removeHandler(listener)

    assert report.counts == {Outcome.DELETED: 1}
    assert "Waits (memory) has not answered for 0.05 s" in records[0].getMessage()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pgcleanup-deadline"]


@pytest.mark.parametrize(("seconds", "watching"), [(30, True), (0, False)])
def test_timeout_of_zero_watches_over_nothing(settings, seconds, watching):
    settings.PGCLEANUP_STORAGE_TIMEOUT = timedelta(seconds=seconds)
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("deleted")

    assert bool(threads()) == watching

    run.finish()


# The main thread takes no SIGTERM for a moment, as while it has another signal to handle.
WATCHED = """
import django, os, signal, time
django.setup()
from pgcleanup.drain.deadline import Calls, Deadline
handled = []
signal.signal(signal.SIGTERM, lambda *_: handled.append("in another thread"))
with Deadline("default", Calls()).watch():
    time.sleep(0.2)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    print(*handled, *signal.sigpending())
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals go to the main thread alone")
def test_watching_thread_leaves_signals_to_the_main_thread_which_may_hang_in_a_call(environment):
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environment, capture_output=True, text=True, timeout=60)

    assert (done.stdout.strip(), done.stderr) == (str(signal.SIGTERM), "")


class Clock:
    """Goes on only when the watching thread would sleep, and lets the next thing happen then."""

    def __init__(self, calls: Calls, script: list[Call | None]) -> None:
        self.now = 0.0
        self.calls = calls
        self.script = iter(script)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        for call in self.script:
            self.calls.current = call
            return False
        return True

    def monotonic(self) -> float:
        return self.now


def call() -> Call:
    """Return a call, which differs from every other."""
    return "delete", MemoryStorage(), "docs/a.txt"


@pytest.mark.parametrize(
    ("script", "overruns"),
    [
        ([call() for _ in range(100)], 0),
        ([None] * 100, 0),
        ([call(), *([None] * 100)], 0),
        ([call()] * 25 + [call()] * 25 + [None] * 50, 0),
        ([call()] * 100, 1),
        ([call()] * 40 + [None] + [call()] * 40, 2),
    ],
    ids=["one call after another", "nothing", "a call and nothing", "two slow ones", "one that hangs", "two that hang"],
)
def test_only_a_call_that_is_still_the_same_after_the_timeout_hangs(script, overruns, monkeypatch, caplog):
    calls = Calls()
    deadline = Deadline("default", calls)
    clock = Clock(calls, script)
    monkeypatch.setattr("pgcleanup.drain.deadline.time", clock)
    monkeypatch.setattr(deadline, "_stopped", clock)

    deadline._watch()

    assert clock.now > 60
    assert len(caplog.records) == overruns
