"""The trigger that keeps the history as it was written: on a table of our own, apart from the record triggers."""

from __future__ import annotations

from pgcleanup import sql, templates
from pgcleanup.conf import settings
from pgcleanup.triggers import render
from pgcleanup.triggers.catalog import Ledger
from pgcleanup.triggers.install import LOCK
from pgcleanup.triggers.plan import State

HISTORY = "settled_file_deletion"
GUARD = "settled_file_deletion_append_only"
"""The trigger, and its function. Not with the prefix of the record functions, whose strays a sync drops."""

_TEMPLATE = "append_only.v1.sql"
_TYPE = 27  # pg_trigger.tgtype: row 1, before 2, delete 8, update 16

# No row where there is no history to guard.
_READ = """
SELECT g.tgenabled::text, g.tgtype, p.proname, pg_catalog.md5(p.prosrc),
       pg_catalog.obj_description(p.oid, 'pg_proc')
  FROM (SELECT pg_catalog.to_regclass(%(history)s) AS oid) c
  LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid AND g.tgname = %(guard)s
  LEFT JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
 WHERE c.oid IS NOT NULL
"""
_PLACE = """
SELECT n.nspname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = pg_catalog.to_regclass(%s)
"""


def guard_state(using: str, ledger: Ledger) -> State | None:
    """Return how the history is guarded; None where there is no history."""
    rows = sql.fetch(using, _READ, {"guard": GUARD, "history": sql.qualified(ledger.schema, HISTORY)})
    if not rows:
        return None
    enabled, type_, function, body_md5, comment = rows[0]
    if enabled is None:
        return State.MISSING
    if type_ == _TYPE and function == GUARD and enabled not in "OA":
        return State.DISABLED
    current = type_ == _TYPE and function == GUARD and comment == _comment(body_md5)
    return State.INSTALLED if current else State.OUTDATED


def install_guard(using: str, schema: str) -> None:
    """Make the trigger anew, in one short transaction that waits for its lock as long as any other DDL of ours."""
    table, function = sql.qualified(schema, HISTORY), sql.qualified(schema, GUARD)
    text = templates.render(_TEMPLATE, function=function)
    with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
        sql.execute(using, LOCK)
        sql.execute(using, text)
        note = sql.quote_literal(_comment(render.body_md5(text)))
        sql.execute(using, f"COMMENT ON FUNCTION {function}() IS {note}")
        sql.execute(
            using,
            f"CREATE OR REPLACE TRIGGER {sql.quote_identifier(GUARD)} BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()",
        )


def drop_guard(using: str) -> None:
    """Take the trigger and its function away."""
    if (schema := find_history(using)) is not None:
        table, function = sql.qualified(schema, HISTORY), sql.qualified(schema, GUARD)
        with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
            sql.execute(using, f"DROP TRIGGER IF EXISTS {sql.quote_identifier(GUARD)} ON {table}")
            sql.execute(using, f"DROP FUNCTION IF EXISTS {function}()")


def find_history(using: str) -> str | None:
    """Return the schema that the history is in, as the session finds it; None where there is none."""
    rows = sql.fetch(using, _PLACE, [HISTORY])
    return str(rows[0][0]) if rows else None


def enable_statement(schema: str) -> str:
    """Return what enables the trigger again."""
    return f"ALTER TABLE {sql.qualified(schema, HISTORY)} ENABLE TRIGGER {sql.quote_identifier(GUARD)};"


def _comment(body_md5: str) -> str:
    return f"pgcleanup:{templates.digest(_TEMPLATE)[:40]}:{body_md5}"
