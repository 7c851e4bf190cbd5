"""What must hold before a drain starts. Each refusal says what to do."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.conf import settings as django_settings
from django.db import connections

from pgcleanup import conf, sql
from pgcleanup.drain.permission import withheld
from pgcleanup.exceptions import DrainRefused
from pgcleanup.labels import label_problems
from pgcleanup.ledger import control
from pgcleanup.leftovers import leftovers
from pgcleanup.triggers import Inspection, how_to_make_tables, inspect


def preflight(using: str, *, inside_transaction: bool = False, dry_run: bool = False) -> Inspection:
    """Return what the database has, or refuse.

    Args:
        using: the database alias.
        inside_transaction: allow an open transaction, as a test case has one, whose database is nobody's copy.
        dry_run: allow a look where nothing may be deleted.

    Raises:
        DrainRefused: nothing was read from or written to the ledger.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        raise DrainRefused(
            f'database "{using}" is {connection.display_name}; pgcleanup works on PostgreSQL only. '
            "Name a PostgreSQL database with --database."
        )
    if bad := list(_configuration_errors()):
        raise DrainRefused("; ".join(bad))
    if not inside_transaction and (problem := conf.autocommit_problem(using)):
        raise DrainRefused(problem)
    if not inside_transaction and (connection.in_atomic_block or not connection.get_autocommit()):
        raise DrainRefused(
            "a drain cannot run inside a transaction: a rollback would bring back the entries of files that are gone. "
            "Call it outside atomic(), after the commit."
        )
    if sql.fetch(using, "SELECT pg_is_in_recovery()")[0][0]:
        raise DrainRefused(f'database "{using}" is a standby, which cannot be written to. Drain on the primary.')
    found = inspect(using)
    if found is None:
        raise DrainRefused(f'database "{using}" has no ledger. {how_to_make_tables(using)}')
    if not found.ledger.has_column_table:
        raise DrainRefused(
            f'database "{using}" does not say which file columns it has. Run: manage.py migrate --database {using}'
        )
    if not control.exists(using):
        raise DrainRefused(f'database "{using}" lacks the table file_deletion_control. {how_to_make_tables(using)}')
    if not dry_run:
        for reason in withheld(using, compare=not inside_transaction):
            raise DrainRefused(str(reason))
    return found


def _configuration_errors() -> Iterator[str]:
    """Yield what a check calls an error. Asked here, too: a task or a script runs no checks."""
    silenced = django_settings.SILENCED_SYSTEM_CHECKS
    if apps.is_installed("django_cleanup") and "pgcleanup.E001" not in silenced:
        yield "django_cleanup is installed as well; remove it from INSTALLED_APPS"
    bad = list(conf.problems())
    yield from bad
    if (unknown := conf.unknown_names()) and "pgcleanup.E004" not in silenced:
        # One that was to be PGCLEANUP_DELETE_FILES = False, perhaps.
        yield f"there is no setting {', '.join(unknown)}; correct the name, or remove it"
    if not bad and "pgcleanup.E003" not in silenced:
        yield from label_problems()
    if not bad and "pgcleanup.E005" not in silenced:
        yield from (f"{what}. {advice}" for what, advice in leftovers())
