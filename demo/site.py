"""The demo site: its database on a server of its own, its files in a temporary folder, both gone at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.postgres import Server, own_postgres, postgres
from tests.project import database_url

MANAGE = Path(__file__).with_name("manage.py")


@dataclass(frozen=True)
class Site:
    """A migrated site. `url` leads to its database, `files` is the folder with its two storages."""

    url: str
    files: Path
    server: str

    @property
    def environment(self) -> dict[str, str]:
        """What `demo/manage.py` needs to work on this site."""
        return {"DATABASE_URL": self.url, "PGCLEANUP_DEMO_FILES": str(self.files)}

    def manage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` in a process of its own, as cron would."""
        return subprocess.run(
            [sys.executable, str(MANAGE), *arguments],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def running_site() -> Iterator[Site]:
    """Start a server, make the site's database and folder, migrate, and take it all away in the end.

    The embedded server; the one at DATABASE_URL where that is set, in a database of its own there.
    """
    with (
        postgres() if os.environ.get("DATABASE_URL") else own_postgres() as server,
        _database(server) as url,
        tempfile.TemporaryDirectory(prefix="pgcleanup-demo-") as folder,
    ):
        site = Site(url, Path(folder), server.description)
        os.environ.update(site.environment, DJANGO_SETTINGS_MODULE="demo.settings")

        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        try:
            yield site
        finally:
            connections.close_all()


@contextmanager
def _database(server: Server) -> Iterator[str]:
    name = f"pgcleanup_demo_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield database_url.render({**database_url.parse(server.url), "NAME": name})
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
