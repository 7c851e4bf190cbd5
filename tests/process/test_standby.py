"""A drain on a real standby, and one whose server is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests import postgres

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def server(media_root: Path):
    """Return a server of its own with the project migrated, and the environment to run its commands in."""
    with postgres.own_postgres() as own:
        with psycopg.connect(own.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
        environment = {
            **os.environ,
            "DATABASE_URL": own.url,
            "OTHER_DATABASE_URL": own.url.rpartition("/")[0] + "/other",
            "PGCLEANUP_TEST_MEDIA": str(media_root),
        }
        assert manage(environment, "migrate", "-v", "0").returncode == 0
        yield own, environment


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the test project."""
    return subprocess.run(
        [sys.executable, "tests/manage.py", *arguments],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_drain_on_a_standby_refuses_and_says_where_to_drain(server) -> None:
    own, environment = server
    own.stop()
    (own.data / "standby.signal").touch()
    own.start()

    done = manage(environment, "drain_deletions")

    assert done.returncode == 3
    assert 'database "default" is a standby, which cannot be written to. Drain on the primary.' in done.stderr


def test_database_that_is_not_there_ends_a_drain_with_one_sentence(server) -> None:
    own, environment = server
    own.stop()

    done = manage(environment, "drain_deletions")

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "connection" in done.stderr
    own.start()
