"""The databases: asked only when somebody names them, as `manage.py check --database default` does.

All of these are warnings: an error would stop commands that mend it, wherever they run the checks first.
`manage.py check --database default --fail-level WARNING` fails a deployment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import Error, connections

from pgcleanup import references, sql
from pgcleanup.checks.configuration import is_readable
from pgcleanup.columns import find_file_columns
from pgcleanup.drain.scans import index_statement
from pgcleanup.status import find_problems, words
from pgcleanup.status.problems import Kind
from pgcleanup.triggers import read_ledger

_IDS = {
    Kind.UNREADABLE: "pgcleanup.W010",
    Kind.NO_LEDGER: "pgcleanup.W011",
    Kind.COVERAGE: "pgcleanup.W012",
    Kind.BEHIND: "pgcleanup.W013",
    Kind.FAILED: "pgcleanup.W014",
    Kind.PAUSED: "pgcleanup.W017",
    Kind.COPIED: "pgcleanup.W018",
}

_SUPERUSERS = r"""
SELECT DISTINCT r.rolname
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_roles r ON r.oid = p.proowner
 WHERE n.nspname = %s AND p.proname LIKE 'pgcleanup\_%%' AND p.prorettype = 'trigger'::regtype AND r.rolsuper
"""


def check_database(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Look at the ledger, the triggers and the age of each of these databases. Never raises for the database."""
    return [message for alias in _to_be_looked_at(databases) for message in _problems(alias)]


def check_owner(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Look at whose rights the record functions run with. Only with `manage.py check --deploy --database ALIAS`."""
    return [message for alias in _postgresql(databases) for message in _superusers(alias)]


def check_indexes(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Name the large tables that each check of names reads from end to end, and the index that spares it."""
    return [message for alias in _to_be_looked_at(databases) for message in _without_index(alias)]


def _without_index(alias: str) -> Iterator[CheckMessage]:
    columns = find_file_columns(alias)
    try:
        scanned = references.columns_scanned(alias, columns) if len(columns) else []
    except Error:
        return  # somebody has the table locked, or the database does not answer, which `check_database` says
    for column, size in scanned:
        yield checks.Info(
            f'{column.source} has no index in database "{alias}": to tell whether a file is still named, a drain '
            f"reads the whole table, {words.size(size)}.",
            hint=f"{index_statement(column)};",
            id="pgcleanup.I001",
        )


def _to_be_looked_at(databases: Sequence[str] | None) -> list[str]:
    # `migrate` runs the checks before it works: they would advise to run what is running, and `after_migrate`
    # says once more what is still so when it is done.
    return _postgresql(databases) if is_readable() and sys.argv[1:2] != ["migrate"] else []


def _postgresql(databases: Sequence[str] | None) -> list[str]:
    return [alias for alias in databases or () if connections[alias].vendor == "postgresql"]


def _problems(alias: str) -> Iterator[CheckMessage]:
    for problem in find_problems(alias):
        yield checks.Warning(problem.sentence, hint=problem.advice, id=_IDS[problem.kind])


def _superusers(alias: str) -> Iterator[CheckMessage]:
    try:
        ledger = read_ledger(alias)
        roles = [row[0] for row in sql.fetch(alias, _SUPERUSERS, [ledger.schema])] if ledger else []
    except Error:
        return
    for role in roles:
        yield checks.Warning(
            f'The record functions in database "{alias}" belong to the superuser "{role}", and run with its rights.',
            hint="Let a plain role own the application's tables and run migrate.",
            id="pgcleanup.W015",
        )
