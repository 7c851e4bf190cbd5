"""The short form of tests/faults/test_killed_drains.py, which `make test-faults` runs."""

from __future__ import annotations

import threading

import pytest

from pgcleanup.triggers import sync
from tests.faults.support import Site, kill_drains
from tests.faults.writers import OrmWriter, SqlWriter

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_drains_killed_at_random_moments_while_rows_change_keep_every_promise(process_env, tmp_path) -> None:
    site = Site.of(process_env, tmp_path, PGCLEANUP_TEST_BATCH="20", PGCLEANUP_TEST_PAUSE="0.002")
    sync("default", triggers=False)
    stop = threading.Event()
    writers = [
        SqlWriter(site.media, 1, stop, site.url, two_phase=True),
        SqlWriter(site.media, 2, stop, site.url),
        OrmWriter(site.media, 3, stop, "default"),
    ]

    after = kill_drains(site, writers, seconds=2, drains=2)

    after.assert_promises_hold()
    assert after.killer.killed
    # All entries of a name settle together; the bytes stand on one of them.
    sizes = "SELECT count(bytes) FROM settled_file_deletion WHERE outcome = 'deleted' GROUP BY name"
    assert set(site.sql(sizes)) == {(1,)}
