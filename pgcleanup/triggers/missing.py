"""What to type where something of ours is not there.

Tables are missing that somebody dropped, or a router kept away, while Django says that the app is migrated.
"""

from __future__ import annotations

from typing import Any

from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder

from pgcleanup import sql
from pgcleanup.conf import settings
from pgcleanup.triggers.catalog import COLUMN_TABLE, Ledger

# Going back to the one before makes what is missing, and forwards again needs nothing else.
_MAKES_WHAT_IS_MISSING = ("pgcleanup", "0004_append_only_history")
_BEFORE = "0003"

# Where our functions are, if the session finds them by their name.
_REMAINS = r"""
SELECT n.nspname, EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.relnamespace = n.oid AND t.relname = %(columns)s),
       pg_catalog.current_setting('server_version_num')::int, pg_catalog.quote_ident(current_user),
       p.proowner::regrole::text
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.proname LIKE 'pgcleanup\_%%' AND p.prorettype = 'pg_catalog.trigger'::regtype
   AND pg_catalog.pg_function_is_visible(p.oid)
 LIMIT 1
"""


def how_to_make_tables(using: str) -> str:
    """Return what to type where a table of ours is not there."""
    migrate = f"manage.py migrate pgcleanup --database {using}"
    if _MAKES_WHAT_IS_MISSING not in MigrationRecorder(connections[using]).applied_migrations():
        return f"Run: {migrate}"
    return f"Run: manage.py migrate pgcleanup {_BEFORE} --database {using}, then: {migrate}"


def how_to_install(using: str) -> str:
    """Return what to type where triggers are not as they should be."""
    return "Run: " + ", then: ".join(f"manage.py {command} --database {using}" for command in installing())


def installing() -> list[str]:
    """Return the commands that bring triggers in step: a schema for reviewed migrations only gets none but those."""
    return ["pgcleanup sync"] if settings.sync_on_migrate else ["pgcleanup makemigration APP_LABEL", "migrate"]


def find_remains(using: str) -> Ledger | None:
    """Return where a ledger has been whose functions are still there."""
    rows = sql.fetch(using, _REMAINS, {"columns": COLUMN_TABLE})
    return Ledger(*rows[0]) if rows else None


def make_missing_tables(apps: Any, schema_editor: Any) -> None:
    """Make the tables anew that are not there, empty, so that migrations backwards find what they drop."""
    connection = schema_editor.connection
    there = set(connection.introspection.table_names())
    for model in apps.get_app_config("pgcleanup").get_models():
        wanted = model._meta.can_migrate(connection) and router.allow_migrate_model(connection.alias, model)
        if wanted and model._meta.db_table not in there:
            schema_editor.create_model(model)
