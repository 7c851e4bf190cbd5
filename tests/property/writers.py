"""A session of the application's, and the names that it knows and may therefore write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg import errors

from tests.drain.support import Session

TABLES = ("project_document", "project_attachment")
_UPSERT = {
    "project_document": "INSERT INTO project_document (id, title, file) VALUES (%s, '', %s)",
    "project_attachment": "INSERT INTO project_attachment (id, file) VALUES (%s, %s)",
}
# What two transactions do to each other, and no drain has a part in.
_CONFLICTS = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)


class Waited(Exception):
    """It had to wait for a lock."""


@dataclass(slots=True)
class Known:
    """What a transaction knows, by when it must have ended, and whether it keeps everybody from reading a table."""

    names: set[str] = field(default_factory=set)
    must_end_by: float | None = None
    truncated: bool = False

    def before(self, moment: float) -> None:
        """Note that it must have ended by this moment, too."""
        self.must_end_by = moment if self.must_end_by is None else min(self.must_end_by, moment)


def writing_session() -> Session:
    """Open a connection for a writer, which waits for others for a moment only."""
    return Session(options="-c lock_timeout=50ms -c statement_timeout=20s")


class Writer:
    """One connection of the application's."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.known = Known()
        self.in_transaction = False
        self.has_snapshot = False
        self.isolation = ""
        self.savepoints = 0

    def begin(self, isolation: str) -> None:
        self.session.begin(isolation)
        self.in_transaction, self.isolation, self.has_snapshot, self.savepoints = True, isolation, False, 0

    def end(self, *, commit: bool) -> bool:
        """End the transaction; what it knew is forgotten. Returns whether it is committed."""
        try:
            self.session.run("COMMIT" if commit else "ROLLBACK")
        except _CONFLICTS:  # SERIALIZABLE, at the commit
            self.session.run("ROLLBACK")
            commit = False
        self._forget()
        return commit

    def prepare(self, gid: str) -> Known | None:
        """Prepare the transaction; return what it knew, which is now that of the prepared one."""
        try:
            self.session.run(f"PREPARE TRANSACTION '{gid}'")
        except _CONFLICTS:
            self.session.run("ROLLBACK")
            self._forget()
            return None
        known, self.known = self.known, Known()
        self._forget()
        return known

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]] | None:
        """Execute a statement. None means that another transaction was in the way, and that this one is over.

        Raises:
            Waited: it waited for a lock. Whose, is for the caller to tell.
        """
        self.has_snapshot = True
        try:
            return self.session.run(statement, *values)
        except _CONFLICTS as error:
            if self.in_transaction:
                self.session.run("ROLLBACK")
            self._forget()
            if isinstance(error, errors.LockNotAvailable):
                raise Waited(str(error)) from error
            return None

    def read(self) -> list[str]:
        rows = self.run(" UNION ".join(f"SELECT file FROM {table}" for table in TABLES))
        names = [name for (name,) in rows or () if name]
        if self.in_transaction:
            self.known.names.update(names)
        return names

    def write(self, table: str, key: int, name: str) -> None:
        self.run(f"{_UPSERT[table]} ON CONFLICT (id) DO UPDATE SET file = excluded.file", key, name)

    def _forget(self) -> None:
        self.known = Known()
        self.in_transaction, self.savepoints = False, 0


def committed_names(session: Session) -> list[str]:
    """Return the names that committed rows hold."""
    rows = session.run(" UNION ".join(f"SELECT file FROM {table} WHERE file <> ''" for table in TABLES))
    return sorted(name for (name,) in rows)


def end_prepared(session: Session, gid: str, *, commit: bool) -> None:
    """End a prepared transaction."""
    session.run(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{gid}'")
