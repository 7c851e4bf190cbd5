"""The server that tests run on: where it comes from, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests import launcher, postgres

CHECKOUT = Path(__file__).parents[2]


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 10
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(0.05)


def test_server_restarted_after_a_crash_has_what_was_committed_under_the_same_url() -> None:
    with postgres.own_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        url = server.url

        server.stop(mode="immediate")
        server.start()

        assert server.url == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]
    assert not server.directory.exists()


def test_server_has_the_settings_that_tests_rely_on() -> None:
    with postgres.own_postgres() as server, psycopg.connect(server.url) as connection:
        shown = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("fsync", "synchronous_commit", "max_prepared_transactions", "server_encoding")
        }
        locale = connection.execute("SELECT datctype FROM pg_database WHERE datname = current_database()").fetchone()

    assert shown == {
        "fsync": ("off",),
        "synchronous_commit": ("on",),
        "max_prepared_transactions": ("20",),
        "server_encoding": ("UTF8",),
    }
    assert locale == (launcher.LOCALE,)


def test_killed_parent_leaves_neither_process_nor_directory() -> None:
    program = (
        "import sys; from tests.postgres import own_postgres\n"
        "with own_postgres() as server: print(server.directory, server.url, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout
        directory, url = parent.stdout.readline().split()
        psycopg.connect(url).close()

        parent.send_signal(signal.SIGKILL)

    wait_until_gone(Path(directory))
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)


def test_server_takes_another_port_when_its_own_was_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], launcher._free_port()])
        monkeypatch.setattr(launcher, "_free_port", lambda: next(ports))

        with postgres.own_postgres() as server, psycopg.connect(server.url) as connection:
            assert connection.info.port != taken.getsockname()[1]


def test_server_that_cannot_start_shows_its_log_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launcher.OPTIONS, "max_connections", "none")
    made = []
    monkeypatch.setattr(
        launcher, "_make_directory", lambda make=launcher._make_directory: made.append(make()) or made[0]
    )

    with pytest.raises(RuntimeError, match='invalid value for parameter "max_connections"'), postgres.own_postgres():
        pass

    assert not made[0].exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server as another user")
def test_server_runs_from_a_folder_that_its_user_cannot_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindir, _ = launcher._binaries()
    installation, package = bindir.parent, bindir.parents[1]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(installation, private / package.name / installation.name, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, private / libraries.name)
    monkeypatch.setenv("PGCLEANUP_TEST_PGBIN", str(private / bindir.relative_to(package.parent)))

    with postgres.own_postgres() as server:
        assert server.bindir.is_relative_to(server.directory)
        assert server.description.endswith("of PGCLEANUP_TEST_PGBIN")


def test_database_url_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLEANUP_TEST_PGBIN", "/nowhere")

    with postgres.postgres() as server:
        assert server.url == os.environ["DATABASE_URL"]
        assert server.description.endswith("at DATABASE_URL")


def test_engine_that_cannot_start_a_container_is_replaced_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def container() -> Iterator[postgres.Server]:
        raise OSError("no such image")
        yield

    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("PGCLEANUP_TEST_PGBIN", raising=False)
    monkeypatch.setattr(postgres, "_docker_answers", lambda: True)
    monkeypatch.setattr(postgres, "_container", container)

    with postgres.postgres() as server:
        assert server.description.startswith("embedded PostgreSQL")
        assert "OSError: no such image" in server.warning
    assert "WARNING: a Docker engine answers, but started no PostgreSQL" in capsys.readouterr().err


def test_missing_binaries_are_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGCLEANUP_TEST_PGBIN", str(tmp_path))

    with pytest.raises(RuntimeError, match="has no initdb; set PGCLEANUP_TEST_PGBIN to a directory with"):
        launcher._binaries()
