"""What the database may do to a drain: kill its connection, crash, refuse it a lock, run out of patience.

tests/faults/test_database_faults.py does the same for longer, crashes the server and goes through pgbouncer.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.signals import cleanup_pre_delete
from pgcleanup.triggers import sync
from tests.drain.support import Session
from tests.faults import scenarios, stepping
from tests.faults.support import Site

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def at_once(transactional_db: None, media_root: Path, settings, monkeypatch) -> None:
    """Let drains in this process wait for nothing, and agree with the database about where the files are."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 2)
    sync("default", triggers=False)


@pytest.fixture
def heard():
    """Listen, since a drain does more where somebody does."""
    names: list[str] = []

    def hear(file_name: str, **kwargs) -> None:
        names.append(file_name)

    cleanup_pre_delete.connect(hear)
    yield names
    cleanup_pre_delete.disconnect(hear)


def test_connection_that_is_killed_after_any_step_loses_nothing(at_once, heard, media_root) -> None:
    steps = stepping.every_step()

    killed = [stepping.kill_after(steps.index(step)) for step in dict.fromkeys(steps)]

    assert sorted(killed) == sorted(stepping.STEPS)
    assert not [path for path in media_root.rglob("*") if path.is_file()]


def test_drain_in_a_process_whose_connections_died_since_the_last_one_opens_new_ones(at_once, media_root) -> None:
    """As after a restart of the server, in a worker that no request ends in."""
    drain()
    killer = Session()
    for alias in ("default", "other"):
        killer.run("SELECT pg_terminate_backend(%s, 5000)", connections[alias].connection.info.backend_pid)
    path = media_root / "docs" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(b"content")
    killer.let_go("docs/a.txt")
    killer.raw.close()

    assert drain().counts == {Outcome.DELETED: 1}


def test_deadlock_that_a_drain_loses_costs_no_attempt_and_no_file(at_once) -> None:
    scenarios.deadlock()


@pytest.mark.parametrize("state", ["40001", "40P01"], ids=["serialization failure", "deadlock"])
def test_settlement_that_fails_after_the_files_went_is_made_good_by_the_next_drain(at_once, state) -> None:
    scenarios.settlement_fails(state)


def test_timeouts_of_the_role_shorter_than_a_batch_do_not_end_it(process_env, tmp_path) -> None:
    site = Site.of(process_env, tmp_path)
    sync("default", triggers=False)

    scenarios.drain_in_spite_of(site, " -c ".join(scenarios.role_timeouts()))
