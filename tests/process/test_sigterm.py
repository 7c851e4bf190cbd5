"""A drain that is told to stop ends in order: what it did is settled, and it says so."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pgcleanup.drain import drain
from pgcleanup.triggers import sync
from tests.faults.support import DRAIN, Site
from tests.support import run_sql, session, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

STOPPED = "before the end. Nothing is lost: the next drain goes on from here."


@pytest.fixture
def site(process_env: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    """Return a site whose database knows where its files are."""
    made = Site.of(process_env, tmp_path)
    # In this process: a second faster than `manage.py pgcleanup sync`.
    sync("default", triggers=False)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def heeded_sigint() -> Iterator[None]:
    """Let the processes that are started here heed SIGINT, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped_at_work(site: Site, number: signal.Signals, *options: str) -> tuple[int, str, str]:
    """Start a drain, stop it once it has told of some names, and return its exit code and what it said."""
    process = site.start([*DRAIN, *options], PGCLEANUP_TEST_PAUSE="0.05")
    until(lambda: len(site.signals()) >= 5, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_drain_told_to_stop_ends_between_two_files_and_settles_what_it_did(site, number, code) -> None:
    names = site.let_go(150)

    ended_with, output, errors = stopped_at_work(site, number)

    gone = {name for name in names if not (site.media / name).exists()}
    history = {(name, outcome) for name, outcome in run_sql("SELECT name, outcome FROM settled_file_deletion")}
    assert ended_with == code
    assert f"Stopped by {number.name} {STOPPED}" in output
    assert errors == ""
    assert 0 < len(gone) < 150
    assert history == {(name, "deleted") for name in gone}
    assert len(site.pending()) == 150 - len(gone)


def test_drain_after_one_that_was_stopped_tells_of_no_file_twice(site, settings) -> None:
    site.let_go(30)
    stopped_at_work(site, signal.SIGTERM)

    done = site.manage("drain_deletions")

    assert done.returncode == 0, done.stdout + done.stderr
    assert site.pending() == []
    assert site.stored() == set()
    site.assert_told_once()


def test_stopped_drain_says_so_to_machines(site) -> None:
    site.let_go(150)

    _, output, _ = stopped_at_work(site, signal.SIGTERM, "--json")

    said = json.loads(output)
    assert (said["stopped"], said["exit_code"]) == (True, 143)
    assert said["counts"]["deleted"] > 0
    assert said["waiting"]["due"] > 0


def test_stopped_drain_that_prints_only_problems_says_that_it_was_stopped(site) -> None:
    site.let_go(150)

    _, output, _ = stopped_at_work(site, signal.SIGTERM, "-v", "0")

    assert output == f"Stopped by SIGTERM {STOPPED}\n"


def test_drain_that_waits_for_a_transaction_stops_at_once(site) -> None:
    with session() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        site.let_go(1)
        process = site.start([*DRAIN, "--wait", "600"])
        until(lambda: run_sql("SELECT 1 FROM file_deletion_stamp"), process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 143
    assert f"Stopped by SIGTERM {STOPPED}" in output
    assert len(site.pending()) == 1


def test_call_that_hangs_ends_with_the_process_and_before_the_claims(site) -> None:
    site.let_go(3)
    process = site.start(DRAIN, PGCLEANUP_TEST_PAUSE="600", PGCLEANUP_TEST_SECONDS_TO_END="0.2")
    until(site.signals, process)

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "stopped by SIGTERM in the midst of a batch" in errors
    assert "Nothing is lost" in errors
    assert "Traceback" not in errors
    assert len(site.pending()) == 3


def test_second_signal_ends_a_drain_without_waiting_for_the_file_under_way(site) -> None:
    site.let_go(3)
    process = site.start(DRAIN, PGCLEANUP_TEST_PAUSE="600")
    until(site.signals, process)

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "stopped by SIGINT in the midst of a batch" in errors
    assert len(site.pending()) == 3


def test_signal_that_was_ignored_before_stays_ignored(site) -> None:
    """As a shell has it for SIGINT of what it runs in the background."""
    site.let_go(15)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    ended_with, output, _ = stopped_at_work(site, signal.SIGINT)

    assert ended_with == 0
    assert "Deleted 15 files" in output


def test_drain_called_from_python_ends_when_its_caller_says_so(site, settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    site.let_go(100)
    asked = iter(range(100))

    report = drain(stop=lambda: next(asked) >= 4)

    assert report.stopped
    assert 0 < sum(report.counts.values()) < 100
    assert len(site.pending()) == 100 - sum(report.counts.values())
    assert not drain().stopped
    assert site.pending() == []
