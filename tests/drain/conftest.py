"""Fixtures of the drain's tests. Everything here is committed: the drain's promises are about commits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import Storage, default_storage
from django.db import connections, models

from pgcleanup import sql
from pgcleanup.drain import meanwhile
from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete
from tests.drain.support import ALIASES, Session, agree
from tests.project.models import Ignored

_TABLES = """
SELECT format('DELETE FROM %I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' AND c.relkind = 'r' AND NOT c.relispartition
   AND c.relname !~ '^(django|auth)_' AND c.relname <> 'file_deletion_column'
"""


def _empty(using: str) -> None:
    """Delete all rows, with neither triggers nor foreign keys: a fraction of the time of a flush."""
    sql.execute(using, "ROLLBACK") if connections[using].in_atomic_block else None
    statements = [row[0] for row in sql.fetch(using, _TABLES)]
    sql.execute(
        using, ";".join(["SET session_replication_role = replica", *statements, "RESET session_replication_role"])
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say that each test here uses both databases, for pytest-django to make them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=list(ALIASES)))


@pytest.fixture
def _django_db_helper(django_db_setup: None) -> None:
    """Take the place of pytest-django's, which would flush both databases: ten times as slow as `_empty`."""


@pytest.fixture(autouse=True)
def database(django_db_setup: None, django_db_blocker: Any, media_root: Path, settings: Any) -> Iterator[None]:
    """Open both databases for real commits, with no waiting by default, and leave them empty."""
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    with django_db_blocker.unblock():
        agree()
        yield
        for alias in ALIASES:
            _empty(alias)


@pytest.fixture
def session(database: None) -> Iterator[Callable[..., Session]]:
    """Make connections of the application's."""
    made: list[Session] = []

    def make(using: str = "default", **parameters: Any) -> Session:
        made.append(Session(using, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.raw.close()


@pytest.fixture
def alias(database: None) -> Iterator[Callable[..., str]]:
    """Make another alias of the default database, for a second drain or for one with other options."""
    made: list[str] = []

    def make(name: str, **changes: Any) -> str:
        like = connections["default"].settings_dict
        connections.settings[name] = {**like, **changes, "OPTIONS": {**like["OPTIONS"], **changes.get("OPTIONS", {})}}
        made.append(name)
        return name

    yield make
    for name in made:
        connections[name].close()
        del connections[name]
        del connections.settings[name]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, database: None) -> Callable[..., Any]:
    """Put the files of a model into another storage."""

    def put_into(storage: Storage, model: type[models.Model], field: str = "file") -> Any:
        monkeypatch.setattr(model._meta.get_field(field), "storage", storage)
        agree()
        return storage

    return put_into


@pytest.fixture
def ignored_beside(store: Callable[..., Any]) -> None:
    """Let the ignored model have its files where the others have theirs."""
    store(default_storage, Ignored)


@pytest.fixture
def receive(database: None) -> Iterator[Callable[..., None]]:
    """Connect receivers for the length of the test."""
    connected: list[tuple[Any, Any, Any]] = []

    def connect(*, before: Any = None, after: Any = None, sender: Any = None) -> None:
        for signal, receiver in ((cleanup_pre_delete, before), (cleanup_post_delete, after)):
            if receiver is not None:
                signal.connect(receiver, sender=sender, weak=False)
                connected.append((signal, receiver, sender))

    yield connect
    for signal, receiver, sender in connected:
        signal.disconnect(receiver, sender=sender)


@pytest.fixture
def heard(receive: Callable[..., None]) -> list[tuple[str, str]]:
    """Return a list that fills with ("pre" or "post", name) as signals are sent."""
    calls: list[tuple[str, str]] = []
    receive(
        before=lambda **kwargs: calls.append(("pre", kwargs["file_name"])),
        after=lambda **kwargs: calls.append(("post", kwargs["file_name"])),
    )
    return calls


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take it that nobody else commits anything on the server meanwhile, as other tests may do."""
    asked = meanwhile._MARK.replace("pg_catalog.pg_current_snapshot()::text", "'the same'")
    monkeypatch.setattr(meanwhile, "_MARK", asked)


@pytest.fixture
def role(database: None) -> Iterator[dict[str, str]]:
    """Make a role that may read and write all tables, and is neither superuser nor owner of any."""
    name = f"pgcleanup_test_{os.getpid()}"
    everything = "ALL TABLES IN SCHEMA public"
    sequences = "ALL SEQUENCES IN SCHEMA public"
    sql.execute(
        "default",
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret';"
        f"GRANT ALL ON {everything} TO {name}; GRANT ALL ON {sequences} TO {name}",
    )
    yield {"user": name, "password": "secret"}
    sql.execute("default", f"DROP OWNED BY {name}; DROP ROLE {name}")
