"""The project's other PostgreSQL databases: their rows may name a file of the same storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import DatabaseError, connections

from pgcleanup import references, sql
from pgcleanup.columns import FileColumns, find_file_columns
from pgcleanup.drain.agreement import disagreements
from pgcleanup.exceptions import DrainRefused, OtherDatabaseFailed
from pgcleanup.ledger.identity import system_identifier
from pgcleanup.references import Answer

# Two aliases lead to one database where these agree; a standby of it has the same system identifier.
_IDENTITY = """
SELECT (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
       -- Two aliases with another search_path each see other tables of one database.
       ARRAY(SELECT to_regclass(t)::oid::bigint FROM unnest(%s::text[]) WITH ORDINALITY AS w(t, i) ORDER BY i)
"""


class Elsewhere:
    """The other databases of a run that share a storage with its own, each counted once.

    Args:
        using: the database that is drained.
        own: its columns.
        inside_transaction: as for `preflight`; a test case may also forbid to ask another database.

    Raises:
        DrainRefused: one cannot be asked. What it names is unknown, so nothing may be deleted.
    """

    def __init__(self, using: str, own: FileColumns, *, inside_transaction: bool = False) -> None:
        self.columns: dict[str, FileColumns] = {}
        keys = {column.storage_key for column in own.stored if column.storage_key is not None}
        places = {None, *keys}
        self._tables = sorted({column.table for column in own})
        seen = {self._identity(using)}
        for alias in connections:
            if alias == using or connections[alias].vendor != "postgresql":
                continue
            columns = find_file_columns(alias)
            shared = FileColumns(c for c in columns if places & {c.storage_key, *c.also})
            try:
                # Not of this process's columns alone: with older or newer code than that database's they may be others.
                if not references.concerns(alias, shared, keys):
                    continue
                identity = self._identity(alias)
            except DatabaseError as error:
                raise DrainRefused(self._unanswered(alias, error)) from error
            except AssertionError:
                # Django's, of a test case whose `databases` do not name this one: the test cannot write there.
                if not inside_transaction:
                    raise
                continue
            if identity in seen:
                continue
            if connections[alias].in_atomic_block and not inside_transaction:
                raise DrainRefused(
                    f'database "{alias}" may name files of the same storages, and a transaction is open there, in '
                    "which it would be asked: what it has deleted may be rolled back. Call the drain outside of it."
                )
            seen.add(identity)
            self.columns[alias] = columns

    def __bool__(self) -> bool:
        return bool(self.columns)

    def check(self, key: str, names: Sequence[str], grace: timedelta) -> Answer:
        """Ask them all about names of the storage `key`, and compare its columns. Reads never go through a router.

        Raises:
            OtherDatabaseFailed: one did not answer.
        """
        answer = Answer()
        for alias, columns in self.columns.items():
            try:
                found = references.check_elsewhere(alias, columns, key, names, grace)
            except DatabaseError as error:
                grant = references.grant_against(alias, columns.naming(key), error)
                connections[alias].close()
                raise OtherDatabaseFailed(self._unanswered(alias, error) + grant) from error
            answer.add(found, alias)
            if differences := self._differences(alias, columns, key, found):
                answer.differences[alias] = differences
        return answer

    @staticmethod
    def _differences(alias: str, columns: FileColumns, key: str, found: Answer) -> list[str]:
        known = {source for source, _ in found.known}
        # Whose table is not there, and never was, names nothing.
        mine = FileColumns(c for c in columns if c.source in known or c.source in found.asked)
        # A column that this process has in the storage was asked, wherever that database has it. Names here are looked
        # for where the drained database has them, not that one: it may know another MEDIA_ROOT.
        asked = {(column.source, column.storage_key) for column in mine if column.source in known}
        return disagreements(mine, found.known | asked, key, found.moved, f'database "{alias}"')

    @staticmethod
    def _unanswered(alias: str, error: Exception) -> str:
        return (
            f'database "{alias}" may name files of the same storages, but did not answer, and without its answer '
            f"nothing is deleted: {str(error).splitlines()[0]}"
        )

    def _identity(self, alias: str) -> tuple[int | str, int, tuple[int | None, ...]]:
        database, tables = sql.fetch(alias, _IDENTITY, [self._tables])[0]
        system = system_identifier(alias)
        # Where the role may not ask for it, each alias counts: once too often is no harm, and not at all would be.
        return alias if system is None else system, database, tuple(tables)
