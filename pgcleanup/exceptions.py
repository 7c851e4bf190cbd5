"""The errors that pgcleanup raises on purpose, one class for each thing a caller can do differently."""

from __future__ import annotations

from django.core.management.base import CommandError


class PgcleanupError(Exception):
    """Base of all errors raised by pgcleanup."""


class TemplateError(PgcleanupError):
    """A file in `migrations_templates/` is missing or has a placeholder that says no quoting."""


class DrainRefused(PgcleanupError):
    """A drain did not start, and deleted nothing. The message says why and what to do.

    The command ends with exit code 3.
    """


class ConnectionLost(PgcleanupError):
    """The database connection went away in mid-drain.

    The batch it was in is rolled back by PostgreSQL: its entries are still in the ledger, and the next
    drain settles those whose file has gone meanwhile as `absent`, with their signals.
    """


class OtherDatabaseFailed(PgcleanupError):
    """Another database of the project, whose rows may name the same files, did not answer."""


class OthersWouldBeUnapplied(PgcleanupError, CommandError):
    """Taking back migrations of ours would take back those of other apps first, with the tables that they made.

    A CommandError as well, so that `migrate` ends with its message instead of a traceback.
    """


class PendingEntries(PgcleanupError, CommandError):
    """The app cannot be removed while the ledger still holds entries: their files would be forgotten.

    A CommandError as well, so that `migrate pgcleanup zero` ends with its message instead of a traceback.
    """
