"""What the drain's tests do again and again: store a file, let its name go, look at the ledger, drain in steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections, models
from psycopg.pq import TransactionStatus

from pgcleanup import sql
from pgcleanup.drain import DrainReport, FileResult, Run, drain
from pgcleanup.triggers import sync
from tests.project.models import Document

ALIASES = ("default", "other")
NOW = timedelta(0)


def agree() -> None:
    """Tell the databases what this process knows of its columns and storages, as `migrate` would."""
    for alias in ALIASES:
        sync(alias, triggers=False)


def put(
    name: str, content: bytes = b"content", *, age: timedelta = timedelta(hours=1), root: Path | None = None
) -> Path:
    """Store a file that was written a while ago."""
    path = Path(root or settings.MEDIA_ROOT) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    written = time.time() - age.total_seconds()
    os.utime(path, (written, written))
    return path


def let_go(*names: str, model: type[models.Model] = Document, field: str = "file") -> None:
    """Commit rows with these names, and commit their deletion: one ledger entry for each."""
    objects = model._default_manager.bulk_create([model(**{field: name}) for name in names])
    model._default_manager.filter(pk__in=[one.pk for one in objects]).delete()


@contextmanager
def plans_of(begin: str, *parts: str) -> Iterator[list[str]]:
    """Within the block, collect the plans of the statements that begin so and have these parts."""
    plans: list[str] = []

    def explained(execute: Any, statement: Any, parameters: Any, many: bool, context: dict[str, Any]) -> Any:
        text = str(statement).lstrip()
        if text.startswith(begin) and all(part in text for part in parts):
            context["cursor"].execute(f"EXPLAIN {text}", parameters)
            plans.append("\n".join(row[0] for row in context["cursor"].fetchall()))
        return execute(statement, parameters, many, context)

    with connections["default"].execute_wrapper(explained):
        yield plans


def orphaned(name: str, content: bytes = b"content") -> Path:
    """Store a file and let its only name go."""
    path = put(name, content)
    let_go(name)
    return path


def pending(using: str = "default") -> list[str]:
    """Return the names in the ledger, oldest entry first."""
    return [row[0] for row in sql.fetch(using, "SELECT name FROM pending_file_deletion ORDER BY id")]


def entries(columns: str, using: str = "default") -> list[tuple[Any, ...]]:
    """Return columns of the ledger, oldest entry first."""
    return sql.fetch(using, f"SELECT {columns} FROM pending_file_deletion ORDER BY id")


def settled(columns: str = "name, outcome", using: str = "default") -> list[tuple[Any, ...]]:
    """Return columns of the history, oldest entry first."""
    return sql.fetch(using, f"SELECT {columns} FROM settled_file_deletion ORDER BY id")


def age_stamps(by: timedelta) -> None:
    """Let time go by since everything was stamped."""
    sql.execute("default", "UPDATE file_deletion_stamp SET stamped_at = stamped_at - %s", [by])


def end_retry_waits() -> None:
    """Let time go by until every retry is due."""
    sql.execute("default", "UPDATE pending_file_deletion SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL")


def results(**options: Any) -> tuple[DrainReport, dict[str, FileResult]]:
    """Drain, and return the report and what `progress` heard of each name."""
    heard: list[FileResult] = []
    report = drain(progress=heard.append, **options)
    assert len({(result.source, result.name) for result in heard}) == len(heard), "a name was told of twice"
    return report, {result.name: result for result in heard}


class Session:
    """A connection of the application's, beside the drain's."""

    def __init__(self, using: str = "default", **parameters: Any) -> None:
        known = connections[using].get_connection_params()
        wanted = {key: known[key] for key in ("dbname", "user", "password", "host", "port") if key in known}
        self.raw = psycopg.connect(**{**wanted, **parameters}, autocommit=True)

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement, and return its rows."""
        cursor = self.raw.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def begin(self, isolation: str = "READ COMMITTED") -> Session:
        """Open a transaction."""
        self.run(f"BEGIN ISOLATION LEVEL {isolation}")
        return self

    def commit(self) -> None:
        """End it."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """End it."""
        self.run("ROLLBACK")

    def name(self, name: str) -> None:
        """Insert a row that names the file."""
        self.run("INSERT INTO project_document (title, file) VALUES ('', %s)", name)

    def let_go(self, name: str) -> None:
        """Commit a row with this name, and its deletion.

        In the midst of a drain the ORM would work inside the drain's own transaction.
        """
        self.name(name)
        self.run("DELETE FROM project_document WHERE file = %s", name)

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.info.transaction_status != TransactionStatus.IDLE

    @property
    def pid(self) -> int:
        """The server process."""
        return self.raw.info.backend_pid


class Stepped:
    """A drain that is advanced step by step."""

    def __init__(self, using: str = "default", **options: Any) -> None:
        self.run = Run(using, **{"grace": NOW, **options})
        self.steps: Iterator[str] = self.run.steps()

    def until(self, *steps: str) -> str:
        """Advance until one of these steps is done."""
        for step in self.steps:
            if step in steps:
                return step
        raise AssertionError(f"the drain came to its end without {' or '.join(steps)}")

    def finish(self) -> DrainReport:
        """Advance to the end."""
        for _ in self.steps:
            pass
        return self.run.report()

    def crash(self) -> None:
        """Drop it where it is. The server undoes what was not committed, as when its process had died."""
        self.steps.close()  # type: ignore[attr-defined]


@contextmanager
def before_statement(number: int, act: Callable[[], None], using: str = "default") -> Iterator[list[str]]:
    """Act right before the drain's statement of this number, counted from 0. Yields the statements as they come."""
    statements: list[str] = []

    def hook(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        if len(statements) == number:
            statements.append(statement)
            act()
        else:
            statements.append(statement)
        return execute(statement, parameters, many, context)

    with connections[using].execute_wrapper(hook):
        yield statements
