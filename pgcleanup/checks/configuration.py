"""Settings and installed apps."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from pgcleanup import conf
from pgcleanup.conf import settings
from pgcleanup.labels import label_problems, label_warnings
from pgcleanup.leftovers import leftovers
from pgcleanup.models import PendingFileDeletion


def check_apps(**kwargs: Any) -> list[CheckMessage]:
    """Look for an app that must go, and one that should be there."""
    messages: list[CheckMessage] = []
    if apps.is_installed("django_cleanup"):
        messages.append(
            checks.Error(
                "django_cleanup is installed as well, and deletes files that other rows may still name.",
                hint='Remove "django_cleanup" from INSTALLED_APPS; pgcleanup does what it did.',
                id="pgcleanup.E001",
            )
        )
    if not apps.is_installed("pgtrigger"):
        messages.append(
            checks.Warning(
                '"pgtrigger" is missing from INSTALLED_APPS, so `manage.py pgtrigger ls` cannot show the triggers.',
                hint='INSTALLED_APPS = [..., "pgtrigger", "pgcleanup"]',
                id="pgcleanup.W002",
            )
        )
    return messages


def check_databases_of_project(**kwargs: Any) -> list[CheckMessage]:
    """Say that nothing happens where there is no PostgreSQL."""
    if has_postgresql():
        return []
    kinds = sorted({connections[alias].display_name for alias in connections})
    return [
        checks.Warning(
            f"pgcleanup does nothing here: it works on PostgreSQL, and this project's database is {', '.join(kinds)}. "
            "No file is deleted.",
            hint='Use PostgreSQL, or SILENCED_SYSTEM_CHECKS = ["pgcleanup.W001"] where this is meant, as in a test '
            "suite on SQLite.",
            id="pgcleanup.W001",
        )
    ]


def check_autocommit(**kwargs: Any) -> list[CheckMessage]:
    """Look for databases with a ledger in which nothing that we write would be committed."""
    if not has_postgresql():
        return []
    found: list[CheckMessage] = []
    for alias in connections:
        problem = conf.autocommit_problem(alias) if _may_have_ledger(alias) else None
        if problem is not None:
            what, _, advice = problem.partition(". ")
            found.append(checks.Error(f"{what}.", hint=f"{advice}.", id="pgcleanup.E006"))
    return found


def _may_have_ledger(alias: str) -> bool:
    try:
        is_ours = connections[alias].vendor == "postgresql"
    except ImproperlyConfigured:
        return False
    return is_ours and router.allow_migrate_model(alias, PendingFileDeletion)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Look for values that make no sense, names that are no setting, and labels that name nothing."""
    messages: list[CheckMessage] = [
        checks.Error(f"{problem}.", hint="Mend it in the settings.", id="pgcleanup.E002") for problem in conf.problems()
    ]
    if not messages:
        # Only with settings that can be read at all.
        messages += _of_values()
        messages += [checks.Error(f"{what}.", hint=f"{advice}.", id="pgcleanup.E005") for what, advice in leftovers()]
    # An error: the one that was meant may be PGCLEANUP_DELETE_FILES = False.
    messages += [_unknown(name) for name in conf.unknown_names()]
    return messages


def _unknown(name: str) -> CheckMessage:
    # Without the prefix, which would make all of them alike.
    known = [known.removeprefix(conf.PREFIX) for known in conf.all_settings()]
    close = difflib.get_close_matches(name.removeprefix(conf.PREFIX), known, n=1)
    there = f"Remove it. There are: {', '.join(conf.all_settings())}"
    hint = f"Did you mean {conf.PREFIX}{close[0]}?" if close else there
    return checks.Error(f"There is no setting {name}.", hint=hint, id="pgcleanup.E004")


def _of_values() -> Iterator[CheckMessage]:
    for problem in label_problems():
        yield checks.Error(
            f"{problem}.",
            hint='A label is "app_label.Model" or "app_label.Model.field", as in _meta.label.',
            id="pgcleanup.E003",
        )
    for what, advice in label_warnings():
        yield checks.Warning(f"{what}.", hint=f"{advice}.", id="pgcleanup.W019")
    if settings.drain_on_commit and settings.grace_period > timedelta(0):
        yield checks.Warning(
            "PGCLEANUP_DRAIN_ON_COMMIT is True, but a file waits out PGCLEANUP_GRACE_PERIOD first, so the drain after "
            "a commit deletes nothing.",
            hint="PGCLEANUP_GRACE_PERIOD = timedelta(0), or PGCLEANUP_DRAIN_ON_COMMIT = False",
            id="pgcleanup.W004",
        )


def has_postgresql() -> bool:
    """Whether any database of the project is PostgreSQL. Connects to none."""
    try:
        return any(connections[alias].vendor == "postgresql" for alias in connections)
    except ImproperlyConfigured:
        # A backend that cannot be loaded: Django itself says so, at the first query.
        return True


def is_readable() -> bool:
    """Whether the settings make sense; other checks say nothing until they do."""
    return not any(conf.problems())
