"""The app: registers the checks, shows the triggers to pgtrigger, and keeps them in step after `migrate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models.signals import post_migrate, pre_migrate


class CleanupConfig(AppConfig):
    """The app for all models, or for those that `PGCLEANUP_COLUMNS` and its companions choose."""

    name = "pgcleanup"
    verbose_name = "File deletions"
    default = True
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from pgcleanup import checks as own_checks
        from pgcleanup import middleware, on_commit

        own_checks.register()
        on_commit.connect()
        middleware.connect()
        # Of our app alone: they are sent once for each app, before and after all migrations of a `migrate`.
        pre_migrate.connect(before_migrate, sender=self, dispatch_uid="pgcleanup.before_migrate")
        post_migrate.connect(after_migrate, sender=self, dispatch_uid="pgcleanup.after_migrate")
        if apps.is_installed("pgtrigger"):
            from pgcleanup.triggers.registry import register_all

            # A bad setting is for a check to say, once the command is under way.
            with suppress(ImproperlyConfigured):
                register_all()


class CleanupSelectedConfig(CleanupConfig):
    """For projects that leave django-cleanup's select mode: as PGCLEANUP_COLUMNS = "selected"."""

    default = False

    def ready(self) -> None:
        from django.conf import settings

        if not hasattr(settings, "PGCLEANUP_COLUMNS"):
            settings.PGCLEANUP_COLUMNS = "selected"
        super().ready()


def before_migrate(using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: Any) -> None:
    """Let the migrations record the names of columns that they drop.

    Raises:
        CommandError: our own migrations are to be taken back, and that would lose something.
    """
    from pgcleanup.triggers.drops import watch_drops
    from pgcleanup.triggers.unapplied import refuse_what_would_be_lost

    refuse_what_would_be_lost(plan)
    if connections[using].vendor == "postgresql":
        watch_drops(using)


def after_migrate(using: str, verbosity: int = 1, **kwargs: Any) -> None:
    """Bring the triggers in step with the models, and say on stderr what stands in the way.

    Raises nothing of the database's: a migration must not fail because of us.
    """
    from pgcleanup.status.words import plural
    from pgcleanup.triggers import COLUMN_TABLE, sync, versions
    from pgcleanup.triggers.drops import end_watch, unrecorded

    if connections[using].vendor != "postgresql":
        return
    recorded = end_watch(using)
    if verbosity >= 1:
        _report_recorded(recorded)
    try:
        report = sync(using)
        missed = unrecorded(report.dropped, recorded) if report else []
    except (DatabaseError, ImproperlyConfigured) as error:
        lines = [f"the triggers could not be brought up to date: {str(error).splitlines()[0]}"]
    else:
        if report is None:
            _report_lost_ledger(using, kwargs.get("apps"))
            return
        for source in missed:
            sys.stderr.write(
                f"pgcleanup: the column of {source} was dropped by other means than a migration's RemoveField or "
                "DeleteModel, so its file names are not recorded, and those files stay.\n"
            )
        for source in report.left:
            sys.stderr.write(f"pgcleanup: {' '.join(versions.explained(source))}\n")
        lines = [f"{table}: {error}" for table, error in report.failed]
        if set(report.changed) - {COLUMN_TABLE} and verbosity >= 1:
            sys.stdout.write(
                "pgcleanup: triggers brought up to date; "
                f"watching {plural(report.columns, 'file column')} in {plural(report.tables, 'table')}.\n"
            )
        if lines:
            lines.append(_advice(using))
    for line in lines:
        sys.stderr.write(f"pgcleanup: {line}\n")
    if verbosity >= 1:
        _report_status(using)


def _advice(using: str) -> str:
    from pgcleanup.conf import settings

    if settings.sync_on_migrate:
        return f"File names of these tables may not be recorded. Run: manage.py pgcleanup sync --database {using}"
    # No trigger was tried, only the table of file columns.
    return f"Run: manage.py migrate --database {using}"


def _report_recorded(recorded: Mapping[str, int]) -> None:
    """Say which names were recorded because their column went, and what becomes of the files."""
    from pgcleanup.status.words import plural

    for source, count in recorded.items():
        if count:
            sys.stdout.write(
                f"pgcleanup: {source} was dropped; its {plural(count, 'file name')} "
                f"{'is' if count == 1 else 'are'} recorded, and files that nothing else names will be deleted.\n"
            )


def _report_lost_ledger(using: str, migrated: Any) -> None:
    """Say that there is no ledger, unless the app is not migrated (yet, or no more), or a router keeps it away."""
    from pgcleanup.models import PendingFileDeletion
    from pgcleanup.triggers import how_to_make_tables

    if migrated is None or not migrated.all_models.get("pgcleanup"):
        return
    if not router.allow_migrate_model(using, PendingFileDeletion):
        return
    sys.stderr.write(
        f'pgcleanup: database "{using}" is said to be migrated, but lacks its ledger, the table '
        f"pending_file_deletion: its files are NOT recorded. {how_to_make_tables(using)}\n"
    )


def _report_status(using: str) -> None:
    from pgcleanup.status import problems

    for line in problems(using):
        sys.stderr.write(f"pgcleanup: {line}\n")


__all__ = ["CleanupConfig", "CleanupSelectedConfig", "after_migrate", "before_migrate"]
