"""What tests of several kinds need: the ledger as a list, other sessions, other processes, databases of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict

from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from tests.project import database_url

CHECKOUT = Path(__file__).parents[1]
MANAGE = CHECKOUT / "tests" / "manage.py"


def ledger(using: str = "default") -> list[PendingFileDeletion]:
    """Return the pending entries, in the order in which they were recorded."""
    return list(PendingFileDeletion.objects.using(using).order_by("id"))


def recorded(using: str = "default") -> list[tuple[str, str, str]]:
    """Return source, name and operation of the pending entries, sorted."""
    return sorted((entry.source, entry.name, entry.operation) for entry in ledger(using))


def recorded_names(using: str = "default") -> list[str]:
    """Return the pending names, sorted."""
    return sorted(entry.name for entry in ledger(using))


def history(using: str = "default") -> list[SettledFileDeletion]:
    """Return the settled entries, in the order in which they were recorded."""
    return list(SettledFileDeletion.objects.using(using).order_by("id"))


def run_sql(statement: str, params: Any = None, using: str = "default") -> list[tuple[Any, ...]]:
    """Run SQL on Django's connection; return the rows if there are any. Without params a `%` is a `%`."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def until(condition: Callable[[], object], *processes: subprocess.Popen[Any], seconds: float = 60) -> None:
    """Wait for it while the processes live, at most as long as a slow machine takes."""
    end = time.monotonic() + seconds
    while not condition():
        for process in processes:
            assert process.poll() is None, (process.args, process.communicate())
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def server_version(using: str = "default") -> int:
    """Return 150003 for 15.3."""
    connections[using].ensure_connection()
    version: int = connections[using].pg_version
    return version


def url_of(using: str = "default") -> str:
    """Return the URL of the database behind an alias, as tests run on it."""
    return database_url.render(connections[using].settings_dict)


@contextmanager
def session(using: str = "default", *, autocommit: bool = True, **parameters: Any) -> Iterator[psycopg.Connection]:
    """Open a session of its own, as another program would; what it leaves open is rolled back."""
    connection = psycopg.connect(url_of(using), autocommit=autocommit, **parameters)
    try:
        yield connection
    finally:
        # Not psycopg's own `with`, which would commit.
        connection.close()


def manage(env: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a management command in a process of its own."""
    command = [sys.executable, str(MANAGE), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def with_settings(env: dict[str, str], folder: Path, **settings: Any) -> dict[str, str]:
    """Return the environment of processes whose Django settings differ in these values. Writes a file to `folder`."""
    values = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    (folder / "settings_of_a_test.py").write_text(f"import datetime\nfrom tests.project.settings import *\n{values}")
    return {**env, "DJANGO_SETTINGS_MODULE": "settings_of_a_test", "PYTHONPATH": str(folder)}


@contextmanager
def database(name: str, *, template: str | None = None) -> Iterator[str]:
    """Create a database beside the one of `default`, and drop it in the end, whoever is still connected.

    Yields its URL.
    """
    settings = connections["default"].settings_dict
    quoted = psycopg.sql.Identifier(name)
    with session() as server:
        server.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
        statement = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        server.execute(statement.format(quoted, psycopg.sql.Identifier(template or "template0")))
    try:
        yield database_url.render({**settings, "NAME": name})
    finally:
        with session() as server:
            server.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))


@dataclass(frozen=True)
class Scratch:
    """A database that a test may ruin: an alias for this process, an environment for others."""

    alias: str
    url: str
    env: dict[str, str]

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command on it, in a process of its own."""
        return manage(self.env, *arguments, check=check)

    def session(self, **parameters: Any) -> Any:
        """Open a session of its own on it."""
        return session(self.alias, **parameters)

    def sql(self, statement: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL on this process's connection to it."""
        return run_sql(statement, params, self.alias)

    def seen_from_the_server(self) -> dict[str, str]:
        """Return the parameters with which the server itself reaches it: not ours, where it runs in a container."""
        [(host, port)] = self.sql("SELECT host(inet_server_addr()), inet_server_port()")
        own = {"host": host, "port": str(port)} if host else {}
        return {key: str(value) for key, value in {**conninfo_to_dict(self.url), **own}.items()}


@contextmanager
def alias_for(alias: str, url: str) -> Iterator[str]:
    """Add a database to this process's DATABASES."""
    connections.databases[alias] = {**connections["default"].settings_dict, **database_url.parse(url)}
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


def rewrite_history(statement: str, params: Any = None, using: str = "default") -> None:
    """Run SQL that changes the history, as if time had gone by: its trigger, which refuses that, does not fire."""
    with transaction.atomic(using=using):
        run_sql("SET LOCAL session_replication_role = replica", using=using)
        run_sql(statement, params, using=using)
        run_sql("SET LOCAL session_replication_role = origin", using=using)
