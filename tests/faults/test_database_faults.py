"""The database fails under a drain, in every way that it has; tests/process has the short forms."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pgcleanup.signals import cleanup_pre_delete
from pgcleanup.triggers import sync
from tests.faults import scenarios, stepping
from tests.faults.support import DRAIN, Site, draining, going_on, kill_drains, own_site, pgbouncer
from tests.faults.test_killed_drains import EXPECTED, SHARE
from tests.faults.writers import SqlWriter

databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])
QUICK = {"PGCLEANUP_TEST_BATCH": "20", "PGCLEANUP_TEST_PAUSE": "0.002"}


@pytest.fixture
def at_once(transactional_db: None, media_root: Path, settings, monkeypatch) -> Iterator[None]:
    """Let drains in this process wait for nothing, agree with the database about the files, and have a listener."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 2)
    sync("default", triggers=False)

    def hear(**kwargs) -> None:
        pass

    cleanup_pre_delete.connect(hear)
    yield
    cleanup_pre_delete.disconnect(hear)


@pytest.fixture
def site(process_env: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    made = Site.of(process_env, tmp_path, **QUICK)
    sync("default", triggers=False)
    yield made
    made.close()


@databases
def test_connection_killed_after_every_single_step_loses_nothing(at_once, injected, media_root) -> None:
    steps = stepping.every_step()

    for index in range(len(steps)):
        stepping.kill_after(index)

    injected("pg_terminate_backend of a drain", len(steps), verified=f"after each of: {', '.join(stepping.STEPS)}")
    assert set(steps) == set(stepping.STEPS)
    assert not [path for path in media_root.rglob("*") if path.is_file()]


@databases
def test_connections_killed_at_random_moments_lose_nothing(site, injected) -> None:
    stop = threading.Event()
    writers = [SqlWriter(site.media, seed, stop, site.url) for seed in range(3)]
    kills = 0

    with draining(site), going_on(stop, *writers), site.connect() as killer:
        while kills < 60 * SHARE:
            # Not faster than drains can begin anew, or none would ever come to its work.
            before = len(site.signals())
            scenarios.until(lambda: len(site.signals()) >= before + 3)  # noqa: B023 -- called in this round
            kills += scenarios.terminate_a_drain(killer)
    site.finish()

    injected("pg_terminate_backend of a drain", kills)
    site.assert_nothing_lost(may_stay=set().union(*(writer.never_committed for writer in writers)))


def test_crashes_of_the_server_under_writers_with_asynchronous_commit_lose_nothing(tmp_path, injected) -> None:
    # The drains' role has it, too: they wait for the disk all the same.
    with own_site(tmp_path, **QUICK, PGOPTIONS=scenarios.LAZY) as (server, site):
        crashed = scenarios.crash_server(server, site, crashes=max(2, int(8 * SHARE)))

    injected("immediate stop and restart of the server", crashed.crashes)
    injected(
        "commit undone by a crash of the server", crashed.undone, verified="no file of a row that was back was gone"
    )
    assert crashed.missing == []
    assert crashed.left == set()


@databases
def test_deadlock_that_a_drain_loses_loses_nothing(at_once, injected) -> None:
    for _ in range(5):
        scenarios.deadlock()

    injected("deadlock of a drain", 5)


@databases
def test_lock_that_a_drain_waits_for_in_vain_costs_no_attempt(site, injected) -> None:
    names = site.let_go(20)
    site.stamp()
    with site.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")
        done = site.manage("drain_deletions")
        assert done.returncode == 1, done.stdout
        assert "lock timeout" in done.stdout
        assert "Nothing is lost" in done.stdout
        holder.execute("SELECT 1")
    injected("lock timeout of a drain")

    assert {attempts for _, attempts, _ in site.pending()} == {0}
    site.finish()
    assert not site.stored() & set(names)


@databases
def test_serializable_sessions_of_drains_and_writers_lose_nothing(site, injected) -> None:
    serializable = "-c default_transaction_isolation=serializable"
    site.environment["PGOPTIONS"] = serializable
    stop = threading.Event()
    writers = [SqlWriter(site.media, seed, stop, site.url, isolation=["SERIALIZABLE"]) for seed in range(4)]

    after = kill_drains(site, writers, seconds=15 * SHARE, drains=2)

    injected("serialization failure of a writer", after.errors["40001"])
    injected("SIGKILL of a drain", len(after.killer.killed))
    after.assert_promises_hold()
    assert set(after.errors) <= EXPECTED


@databases
def test_serialization_failure_of_a_settlement_is_made_good_by_the_next_drain(at_once, injected) -> None:
    for _ in range(5):
        scenarios.settlement_fails("40001")

    injected("serialization failure of a drain", 5)


@databases
def test_timeouts_of_the_role_shorter_than_a_batch_do_not_end_it(site, injected) -> None:
    for setting in scenarios.role_timeouts():
        scenarios.drain_in_spite_of(site, setting)
        injected(f"{setting.partition('=')[0]} of the role")


@databases
def test_users_ddl_and_truncate_go_through_while_a_storage_call_hangs(site, tmp_path, injected) -> None:
    injected("storage call that hangs during DDL and TRUNCATE", scenarios.change_tables_during_a_call(site, tmp_path))


@databases
def test_drains_and_writers_behind_pgbouncer_in_transaction_mode_lose_nothing(site, tmp_path, injected) -> None:
    with pgbouncer(site, tmp_path) as behind:
        stop = threading.Event()
        writers = [SqlWriter(site.media, seed, stop, behind.url, startup=False) for seed in range(4)]

        after = kill_drains(behind, writers, seconds=20 * SHARE, drains=2)

        injected("SIGKILL of a drain behind pgbouncer", len(after.killer.killed))
        after.assert_promises_hold()
        assert set(after.errors) <= EXPECTED


@databases
def test_sigterm_ends_a_drain_within_ten_seconds_even_where_its_storage_hangs(site, tmp_path, injected) -> None:
    hanging = tmp_path / "hanging"
    hanging.touch()
    environment = {"PGCLEANUP_TEST_HANG": str(hanging)}
    assert site.manage("pgcleanup", "sync", **environment).returncode == 0
    names = site.let_go(3)
    process = site.start(DRAIN, **environment)
    scenarios.until(Path(f"{hanging}.reached").exists)

    began = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - began

    assert process.returncode == 143, errors
    assert seconds < 10
    assert len(site.pending()) == 3
    hanging.unlink()
    assert site.manage("drain_deletions", **environment).returncode == 0
    assert not site.stored() & set(names)
    injected("SIGTERM while a storage call hangs")


@databases
def test_sigterm_at_random_moments_loses_nothing_and_tells_nobody_twice(site, injected) -> None:
    names = site.let_go(150)
    stopped = 0

    while site.pending():
        process = site.start(DRAIN, PGCLEANUP_TEST_PAUSE="0.01")
        before = len(site.signals())
        scenarios.until(lambda: len(site.signals()) > before or process.poll() is not None)  # noqa: B023
        time.sleep(0.03 * (stopped % 10))
        began = time.monotonic()
        process.terminate()
        output, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
        # Before it has begun, and after it has said its last word, it dies of the signal as any process does.
        assert process.returncode in (0, 143, -signal.SIGTERM), output + errors
        stopped += process.returncode == 143

    injected("SIGTERM of a drain", stopped)
    assert not site.stored() & set(names)
    site.assert_told_once()


def test_drain_on_a_standby_refuses_and_leaves_all_as_it_is(tmp_path, injected) -> None:
    with own_site(tmp_path, **QUICK) as (server, site):
        names = site.let_go(5)
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        done = site.manage("drain_deletions")
        assert done.returncode == 3
        assert "is a standby" in done.stderr
        assert set(names) <= site.stored()
        injected("drain on a standby")

        server.stop()
        (server.data / "standby.signal").unlink()
        server.start()
        site.finish()
        assert not site.stored()
