"""Real copies of a real database: a drain refuses in each of them, and goes on after a failover.

The short form, with what is written down changed by hand, is tests/drain/test_adopt.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests import launcher
from tests.launcher import OwnServer, Server, own_postgres
from tests.support import manage, with_settings

Injected = Callable[..., None]


class Copy(OwnServer):
    """A server that began as a physical copy of another one's data."""

    def __init__(self, original: OwnServer, name: str) -> None:
        Server.__init__(self, url="", origin="a copy")
        self.bindir = original.bindir
        # In the original's folder, which is removed whatever happens.
        self.directory = original.directory / name
        self.directory.mkdir()
        launcher._hand_over(self.directory)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.password = original.password
        self.port = 0
        self._process = None
        target, source = f"--pgdata={self.data}", f"--dbname={original.url}"
        self._run("pg_basebackup", target, source, "--checkpoint=fast", "--write-recovery-conf")


@pytest.fixture(scope="module")
def production() -> Iterator[OwnServer]:
    """Return a server with the project in its database `app`, migrated and drained once by its own site."""
    with own_postgres() as own:
        if not (own.bindir / "pg_basebackup").exists():
            pytest.skip("this PostgreSQL comes without pg_basebackup and pg_dump")
        own.url = create(own, "app")
        folder = own.directory / "media-of-production"
        folder.mkdir()
        site = environment(own.url, folder)
        manage(site, "migrate", "-v", "0")
        manage(site, "drain_deletions")
        yield own


def create(server: Server, name: str) -> str:
    """Create a database, and return its URL."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.rpartition("/")[0] + f"/{name}"


def environment(url: str, media: Path) -> dict[str, str]:
    """Return the environment of a site whose files are in this folder."""
    return {**os.environ, "DATABASE_URL": url, "OTHER_DATABASE_URL": url, "PGCLEANUP_TEST_MEDIA": str(media)}


@pytest.fixture
def media(production: OwnServer, tmp_path: Path) -> Path:
    """Return the folder with the files of production, which a careless copy would delete from."""
    folder = production.directory / "media-of-production"
    (folder / "report.pdf").write_text("a file of production's")
    os.utime(folder / "report.pdf", (0, 0))
    return folder


def let_go(url: str) -> None:
    """Let the name of a file of production's go, which in production a row may still have."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM project_document")
        connection.execute("INSERT INTO project_document (title, file) VALUES ('', 'report.pdf')")
        connection.execute("DELETE FROM project_document")


def drain(url: str, media: Path) -> subprocess.CompletedProcess[str]:
    """Drain as the site at this address would, with no grace period."""
    return manage(environment(url, media), "drain_deletions", "--grace-period", "0", check=False)


@contextmanager
def running(server: OwnServer, name: str = "app") -> Iterator[OwnServer]:
    """Run a server for the block, its URL being that of a database."""
    server.start()
    server.url = server.url.rpartition("/")[0] + f"/{name}"
    try:
        yield server
    finally:
        server.stop("immediate")


def restore(production: OwnServer, target: str) -> None:
    """Dump production, and restore it into another database."""
    dump = production.directory / "dump"
    production._run("pg_dump", "--format=custom", f"--file={dump}", production.url)
    production._run("pg_restore", f"--dbname={target}", str(dump))


def test_dump_restored_into_another_database_of_the_server_is_not_drained(
    production: OwnServer, media: Path, injected: Injected
) -> None:
    staging = create(production, "staging")
    restore(production, staging)
    let_go(staging)

    done = drain(staging, media)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "is not the one that was drained before: it is another database and it is reached at another" in done.stderr
    assert (media / "report.pdf").exists()
    injected("dump restored into another database of its server")


def test_dump_restored_into_another_server_is_not_drained_until_it_is_adopted(
    production: OwnServer, media: Path, injected: Injected
) -> None:
    with own_postgres() as other:
        staging = create(other, "app")
        restore(production, staging)
        let_go(staging)

        refused = drain(staging, media)
        own_files = media.parent / "media-of-staging"
        own_files.mkdir()
        manage(environment(staging, own_files), "migrate", "-v", "0")
        manage(environment(staging, own_files), "pgcleanup", "adopt", "--yes")
        adopted = drain(staging, own_files)

    assert refused.returncode == 3
    assert "it is on another server" in refused.stderr
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert (media / "report.pdf").exists()
    injected("dump restored into another server")


def test_physical_copy_that_was_promoted_elsewhere_is_not_drained(
    production: OwnServer, media: Path, injected: Injected
) -> None:
    copy = Copy(production, "copy")
    (copy.data / "standby.signal").unlink()
    with running(copy):
        let_go(copy.url)

        done = drain(copy.url, media)
        looked = manage(environment(copy.url, media), "pgcleanup", "status", "--json", check=False)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "is not the one that was drained before: it is reached at another address." in done.stderr
    assert json.loads(looked.stdout)["exit_code"] == 3
    assert (media / "report.pdf").exists()
    injected("physical copy of the server, promoted elsewhere")


def test_copy_that_is_told_to_delete_nothing_may_look(
    production: OwnServer, media: Path, tmp_path: Path, injected: Injected
) -> None:
    copy = Copy(production, "trial")
    (copy.data / "standby.signal").unlink()
    with running(copy):
        let_go(copy.url)
        env = with_settings(environment(copy.url, media), tmp_path, PGCLEANUP_DELETE_FILES=False)

        done = manage(env, "drain_deletions", "--grace-period", "0", check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (media / "report.pdf").exists()
    injected("physical copy of the server, promoted elsewhere")


def test_standby_that_takes_over_at_the_known_addresses_is_drained_on(
    production: OwnServer, media: Path, injected: Injected
) -> None:
    standby = Copy(production, "standby")
    with running(standby):
        hosts = quote("127.0.0.1,127.0.0.1")
        both = (
            f"postgresql://postgres:{production.password}@/app?host={hosts}&port={production.port},{standby.port}"
            "&target_session_attrs=read-write"
        )
        assert drain(both, media).returncode == 0
        let_go(production.url)
        caught_up(production, standby)
        production.stop("immediate")
        promote(standby)

        done = drain(both, media)

    production.start()
    production.url = production.url.rpartition("/")[0] + "/app"
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deleted 1 file" in done.stdout
    assert not (media / "report.pdf").exists()
    injected("failover to a standby")


def caught_up(primary: OwnServer, standby: OwnServer) -> None:
    """Return once the standby has all that the primary has committed."""
    with psycopg.connect(primary.url) as connection:
        position = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    with psycopg.connect(standby.url, autocommit=True) as connection:
        while not connection.execute("SELECT pg_last_wal_replay_lsn() >= %s", position).fetchone()[0]:
            connection.execute("SELECT pg_sleep(0.02)")


def promote(standby: OwnServer) -> None:
    """Make a standby the primary, and return once it is."""
    with psycopg.connect(standby.url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)
