"""Real processes: two drains and a writer at once, and one drain is killed in mid-work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connections

from pgcleanup.drain import drain
from tests.drain.support import Session, end_retry_waits, let_go, pending, put, settled
from tests.project import database_url
from tests.project.models import Document
from tests.support import until

ROOT = Path(__file__).resolve().parents[2]
DEAD = [f"dead/{number}.txt" for number in range(200)]
ALIVE = [f"alive/{number}.txt" for number in range(100)]

# Small batches and a receiver that takes its time, so that there is a mid-work to be killed in.
PROGRAM = """
import sys, time
from datetime import timedelta
import django
from django.conf import settings
settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
django.setup()
from django.core.management import call_command
from pgcleanup.drain import run
from pgcleanup.signals import cleanup_pre_delete
run.BATCH_SIZE = 25
heard = open(sys.argv[1], "a", buffering=1)

def receiver(file_name, **kwargs):
    heard.write(file_name + chr(10))
    time.sleep(0.005)

cleanup_pre_delete.connect(receiver)
call_command("drain_deletions", "--json", "--wait", "2")
"""


@pytest.fixture
def environment(media_root: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "DATABASE_URL": database_url.render(connections["default"].settings_dict),
        "OTHER_DATABASE_URL": database_url.render(connections["other"].settings_dict),
        "PGCLEANUP_TEST_MEDIA": str(media_root),
    }


class Writer(threading.Thread):
    """Moves names from row to row, each in one transaction, and lets some go, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.session = Session()
        self.stop = threading.Event()
        self.moves = 0

    def run(self) -> None:
        chance = random.Random(7)  # noqa: S311 -- no secret
        while not self.stop.is_set():
            name = chance.choice(ALIVE)
            self.session.begin(chance.choice(["READ COMMITTED", "REPEATABLE READ"]))
            rows = self.session.run("SELECT id, file FROM project_document WHERE file = %s", name)
            for key, stored in rows[:1]:
                if chance.random() < 0.9:
                    self.session.name(stored)
                self.session.run("DELETE FROM project_document WHERE id = %s", key)
                self.moves += 1
            self.session.rollback() if chance.random() < 0.1 else self.session.commit()
            time.sleep(0.001)


def start(environment: dict[str, str], heard: Path) -> subprocess.Popen[str]:
    heard.touch()
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(heard)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_drains_and_a_writer_lose_nothing_and_delete_nothing_too_early_when_one_is_killed(
    environment, media_root: Path, tmp_path
):
    for name in [*DEAD, *ALIVE]:
        put(name)
    let_go(*DEAD)
    Document.objects.bulk_create([Document(file=name) for name in ALIVE])
    heard = [tmp_path / "heard by the killed one", tmp_path / "heard by the other"]
    writer = Writer()
    writer.start()

    drains = [start(environment, heard[0])]
    # Else the other one may have done it all before this one has begun.
    until(heard[0].read_text, *drains)
    drains.append(start(environment, heard[1]))
    until(lambda: len(heard[0].read_text().split()) >= 30, drains[0])
    drains[0].send_signal(signal.SIGKILL)
    outputs = [process.communicate(timeout=30) for process in drains]
    writer.stop.set()
    writer.join()
    writer.session.raw.close()
    for _ in range(3):
        drain()
        end_retry_waits()

    killed, survivor = (Counter(path.read_text().split("\n")[:-1]) for path in heard)
    used = set(Document.objects.values_list("file", flat=True))
    assert writer.moves > 20
    assert drains[0].returncode == -signal.SIGKILL
    assert len(killed) >= 30
    assert drains[1].returncode == 0, outputs[1]
    assert json.loads(outputs[1][0])["exit_code"] == 0
    assert pending() == []
    assert {name for name in [*DEAD, *ALIVE] if (media_root / name).exists()} == used
    assert set(killed.values()) == set(survivor.values()) == {1}
    # All entries of a name settle together; the bytes stand on one of them.
    deleted = Counter(name for name, size in settled("name, bytes") if size is not None)
    assert set(deleted.values()) == {1}
    # What both were told of, the killed one had not settled.
    assert len(set(killed) & set(survivor)) <= 25
