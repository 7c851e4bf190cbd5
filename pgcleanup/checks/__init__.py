"""Django's system checks. Each has an id and a hint that is a command or a setting.

`configuration` looks at settings and apps, `storages` at where the files are, `copies` at other apps that
keep file names, `database` at databases, and only with `manage.py check --database ALIAS` (or `migrate`).
"""

from __future__ import annotations

from django.core import checks
from django.core.checks import CheckMessage, Tags

from pgcleanup.checks.configuration import (
    check_apps,
    check_autocommit,
    check_databases_of_project,
    check_settings,
)
from pgcleanup.checks.copies import check_copies
from pgcleanup.checks.database import check_database, check_indexes, check_owner
from pgcleanup.checks.storages import check_storages

__all__ = ["errors", "register"]

TAG = "pgcleanup"


def register() -> None:
    """Register all checks with Django; `manage.py check --tag pgcleanup` runs those without a database."""
    of_project = (check_apps, check_databases_of_project, check_autocommit, check_settings)
    for check in (*of_project, check_storages, check_copies):
        checks.register(check, TAG)
    checks.register(check_database, TAG, Tags.database)
    checks.register(check_indexes, TAG, Tags.database)
    # A matter of deployment: in development nearly every role is a superuser, and `migrate` would say so each time.
    checks.register(check_owner, TAG, Tags.database, deploy=True)


def errors() -> list[CheckMessage]:
    """Return the errors, not the warnings, that no database is needed for: no drain starts with one of them."""
    found = [*check_apps(), *check_autocommit(), *check_settings()]
    return [message for message in found if message.is_serious() and not message.is_silenced()]
