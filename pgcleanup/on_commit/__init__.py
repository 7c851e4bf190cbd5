"""PGCLEANUP_DRAIN_ON_COMMIT: the process that let a name go deletes its file right after its commit. Best effort.

The record functions tell a session that asked for it (`notify.v1.sql`), once in a transaction, in a message that
comes with the answer to the statement: no query, and no cost where no file was touched. What is not told, or not
done, the next drain does.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.signals import connection_created

from pgcleanup.conf import Settings, settings
from pgcleanup.on_commit.draining import Known
from pgcleanup.on_commit.listening import Listener


def connect() -> None:
    """Begin to listen on every connection that is made from now on. When the app is ready."""
    connection_created.connect(_listen, dispatch_uid="pgcleanup.on_commit")
    setting_changed.connect(_after_change, dispatch_uid="pgcleanup.on_commit")


def _listen(connection: Any, **kwargs: Any) -> None:
    """Ask a new session to tell us, if the setting says so."""
    try:
        wanted = connection.vendor == "postgresql" and settings.drain_on_commit
    except ImproperlyConfigured:
        return  # for a check to say
    if wanted:
        Listener.on(connection).ask()


def _after_change(*, setting: str, value: Any, **kwargs: Any) -> None:
    """Follow the settings of a test, also on the connections that there are."""
    Known.clear()
    if setting == Settings.drain_on_commit.name and value is True:
        for connection in connections.all(initialized_only=True):
            if connection.connection is not None:
                _listen(connection)
