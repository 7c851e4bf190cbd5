"""Drains as real processes, killed at random moments while everybody else goes on writing."""

from __future__ import annotations

import os
import threading

import pytest

from tests.faults.support import Site, kill_drains
from tests.faults.writers import OrmWriter, SqlWriter

# Of the tests' time, a share: 1 is what `make test-faults` does.
SHARE = float(os.environ.get("PGCLEANUP_TEST_SHARE", "1"))
# A foreign key, a serialization failure, a deadlock, a lock timeout: what concurrent writers do to each other.
EXPECTED = {"23503", "40001", "40P01", "55P03"}


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize(("drains", "seconds"), [(2, 30), (4, 60)])
def test_drains_killed_at_random_moments_lose_nothing_delete_nothing_early_and_wait_for_nobody(
    process_env, tmp_path, injected, drains, seconds
) -> None:
    site = Site.of(process_env, tmp_path, PGCLEANUP_TEST_BATCH="20", PGCLEANUP_TEST_PAUSE="0.002")
    assert site.manage("pgcleanup", "sync").returncode == 0
    stop = threading.Event()
    writers = [
        *[SqlWriter(site.media, seed, stop, site.url, two_phase=True) for seed in range(4)],
        OrmWriter(site.media, 4, stop, "default"),
    ]

    after = kill_drains(site, writers, seconds=SHARE * seconds, drains=drains)

    injected("SIGKILL of a drain", len(after.killer.killed))
    injected("commit of a writer meanwhile", after.done.total(), verified="every kind of write, by SQL and by the ORM")
    injected("serialization failure of a writer", after.errors["40001"])
    after.assert_promises_hold()
    assert set(after.errors) <= EXPECTED
    assert len(after.done) == 21, sorted(after.done)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_names_used_again_while_drains_are_killed_lose_no_upload(process_env, tmp_path, injected) -> None:
    """The upload window is longer than any of the writers' transactions, as it must be."""
    site = Site.of(
        process_env, tmp_path, PGCLEANUP_TEST_BATCH="20", PGCLEANUP_TEST_PAUSE="0.002", PGCLEANUP_TEST_WINDOW="4"
    )
    assert site.manage("pgcleanup", "sync").returncode == 0
    stop = threading.Event()
    pool = site.let_go(300, "again")
    for name in pool:
        os.utime(site.media / name, (0, 0))
    writers = [
        SqlWriter(site.media, seed, stop, site.url, pool=pool, parameters="-c lock_timeout=200ms") for seed in range(4)
    ]

    after = kill_drains(site, writers, seconds=max(15, SHARE * 30), drains=2)

    injected("name used again once its file was deleted", after.done["used again"])
    injected("SIGKILL of a drain", len(after.killer.killed))
    after.assert_promises_hold(names_are_used_once=False)
    assert set(after.errors) <= EXPECTED
