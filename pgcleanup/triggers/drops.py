"""Record the names of a column before a migration drops it, and note a file column that a migration makes.

With a dropped column goes the only record of its names. Of a new one a process that runs the old code knows nothing:
it would miss its references, and refuses once the column table has it, which `migrate` writes at its end only.

In the schema editor, and so in the transaction of the migration: what is rolled back records nothing, a faked
migration records nothing, and what the migration wrote before is seen. `DROP COLUMN` and `ADD COLUMN` in SQL are not.
A rename needs no note: the reference check sees by itself that a column is not where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections, models, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from pgcleanup import sql
from pgcleanup.columns import FileColumn, column_of, computed, default_names, file_fields, is_left_alone
from pgcleanup.conf import settings
from pgcleanup.triggers.catalog import COLUMN_TABLE, Ledger, read_ledger
from pgcleanup.triggers.render import LEDGER, PREFIX, key_as_text
from pgcleanup.triggers.retired import retire_at_once

# How the database knows the column: under the label of the last `migrate`, whatever this one renamed before.
# Its record function, if it has one, has that label in it.
_FIND = """
SELECT coalesce(k.source, %(label)s), k.source IS NOT NULL, pg_catalog.row_security_active(c.oid),
       c.relkind IN ('r', 'p'),
       EXISTS (SELECT FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
                WHERE g.tgrelid = c.oid AND pg_catalog.starts_with(p.proname, %(prefix)s)
                  AND pg_catalog.strpos(p.prosrc, pg_catalog.quote_literal(coalesce(k.source, %(label)s))) > 0)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
  LEFT JOIN {columns} k ON k.table_name = c.oid AND k.attnum = a.attnum
 WHERE c.oid = pg_catalog.to_regclass(%(table)s)
"""

# The lock of the drop that follows, before any weaker one: two who hold such a one and want more wait for each other.
# And nobody writes a name that is missed.
_LOCK = "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"

# concat() as in the record functions, whose columns these are.
_RECORD = """
INSERT INTO {ledger} (source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep)
SELECT %(source)s, n.name, n.key, 'DROP', pg_catalog.pg_current_xact_id()::text::bigint, session_user,
       pg_catalog.current_setting('application_name'),
       nullif(pg_catalog.current_setting('pgcleanup.context', true), ''),
       coalesce(pg_catalog.current_setting('pgcleanup.keep', true), '') = 'on'
  FROM (SELECT pg_catalog.concat(o.{column}) AS name, {key} AS key FROM {table} o) n
 WHERE n.name <> '' AND n.name <> ALL (%(defaults)s)
"""

# When the field is gone, nobody can tell any more that a name was its default. What a drain holds is its own.
_KEEP_DEFAULTS = """
UPDATE {ledger} SET keep = true
 WHERE id IN (SELECT id FROM {ledger} WHERE source = %(source)s AND name = ANY (%(defaults)s) FOR UPDATE SKIP LOCKED)
"""

# Of a column that no `migrate` has seen the database does not know yet where its files are.
_NOTE = """
INSERT INTO {columns} AS k (source, attnum, storage_key) VALUES (%s, 0, %s)
ON CONFLICT (source) DO UPDATE SET attnum = 0 WHERE k.table_name IS NULL
"""

# The label is known already where a field changed its storage; where another column had it, which was dropped; where
# its table was missing. If it is another column's still, that one is not where it was, which is noticed.
_NOTE_NEW = """
INSERT INTO {columns} AS k (source, table_name, attnum, storage_key)
SELECT %(source)s, c.oid, a.attnum, %(storage_key)s
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
 WHERE c.oid = pg_catalog.to_regclass(%(table)s)
   AND NOT EXISTS (SELECT FROM {columns} o
                    WHERE o.table_name = c.oid AND o.attnum = a.attnum AND o.source <> %(source)s)
ON CONFLICT (source) DO UPDATE
   SET table_name = excluded.table_name, attnum = excluded.attnum, storage_key = excluded.storage_key
 WHERE coalesce(k.attnum, 0) = 0 OR (k.table_name = excluded.table_name AND k.attnum = excluded.attnum)
"""


class RecordingEditor(BaseDatabaseSchemaEditor):
    """What `watch_drops` mixes into the schema editor of one connection."""

    recorded: dict[str, int]
    """Source → number of names, of this `migrate`."""

    def delete_model(self, model: type[models.Model]) -> None:
        """Drop a table, after its names were recorded."""
        self._record(model, file_fields(model))
        super().delete_model(model)

    def remove_field(self, model: type[models.Model], field: Any) -> None:
        """Drop a column, after its names were recorded."""
        self._record(model, [field] if isinstance(field, models.FileField) else [])
        super().remove_field(model, field)

    def create_model(self, model: type[models.Model]) -> None:
        """Create a table, and note its file columns."""
        super().create_model(model)
        self._note(model._meta.local_concrete_fields)

    def add_field(self, model: type[models.Model], field: Any) -> None:
        """Add a column, and note it if it holds files."""
        super().add_field(model, field)
        self._note([field])

    def alter_field(self, model: type[models.Model], old_field: Any, new_field: Any, strict: bool = False) -> None:
        """Alter a column, and note it if it holds files now, or in another storage."""
        super().alter_field(model, old_field, new_field, strict)
        self._note([new_field])

    def _note(self, fields: Iterable[Any]) -> None:
        for field in fields if not self.collect_sql else ():
            if not isinstance(computed(field), models.FileField):
                continue
            try:
                with transaction.atomic(using=self.connection.alias):
                    note_new(self.connection.alias, field)
            except Exception as error:  # whatever it is, it must not fail the user's migration
                sys.stderr.write(
                    f"pgcleanup: the new file column {field.model._meta.label_lower}.{field.name} could not be noted: "
                    f"{_first_line(error)}. Until this migrate ends, no drain with older code should run.\n"
                )

    def _record(self, model: type[models.Model], fields: Iterable[models.FileField]) -> None:
        if self.collect_sql:
            return
        for field in fields:
            try:
                # A savepoint, or in a migration that is not atomic a transaction.
                with transaction.atomic(using=self.connection.alias):
                    found = record_dropped(self.connection.alias, model, field)
            except Exception as error:  # whatever it is, it must not fail the user's migration
                label = f"{model._meta.label_lower}.{field.name}"
                found = {label: 0}
                sys.stderr.write(
                    f"pgcleanup: {label} is dropped, and its file names could not be recorded, so those files stay: "
                    f"{_first_line(error)}\n"
                )
            for source, count in found.items():
                self.recorded[source] = self.recorded.get(source, 0) + count


def watch_drops(using: str) -> None:
    """Let the schema editor of this connection record what it drops, until `end_watch`."""
    end_watch(using)
    connection: Any = connections[using]
    # Of the connection, not of its class: other connections, and other libraries' editors, stay what they are.
    editor = connection.SchemaEditorClass
    connection.SchemaEditorClass = type(editor.__name__, (RecordingEditor, editor), {"recorded": {}})


def end_watch(using: str) -> dict[str, int]:
    """Put the schema editor back, and return how many names were recorded, by source."""
    connection: Any = connections[using]
    editor = connection.SchemaEditorClass
    if not issubclass(editor, RecordingEditor):
        return {}
    del connection.SchemaEditorClass
    if connection.SchemaEditorClass is not editor.__bases__[1]:
        connection.SchemaEditorClass = editor.__bases__[1]
    recorded: dict[str, int] = editor.recorded
    return recorded


def unrecorded(dropped: Iterable[str], recorded: Mapping[str, int]) -> list[str]:
    """Return the dropped sources whose names should have been recorded, and were not: SQL dropped the column."""
    if not settings.record_dropped:
        return []
    return [source for source in dropped if source not in recorded and not is_left_alone(source)]


def record_dropped(using: str, model: type[models.Model], field: models.FileField) -> dict[str, int]:
    """Record the names of a column that is about to go, and return how many, by source; in the open transaction.

    The table is locked from here on, as the drop locks it.
    """
    ledger, column = read_ledger(using), column_of(field, using)
    if ledger is None or not ledger.has_column_table or column is None:
        return {}
    place = {"table": column.table, "column": column.column, "label": column.source, "prefix": PREFIX}
    rows = sql.fetch(using, _FIND.format(columns=_column_table(ledger)), place)
    if not rows:
        return {}
    source, known, some_hidden, can_be_locked, is_recorded = rows[0]
    parameters = {"source": source, "defaults": list(default_names([column]))}
    names = _names(column, ledger)
    sql.execute(using, _KEEP_DEFAULTS.format(**names), parameters)
    if not settings.record_dropped or is_left_alone(source) or (column.excluded and not is_recorded):
        return {source: 0}
    if some_hidden:
        sys.stderr.write(
            f"pgcleanup: {source} is dropped, and row level security may hide rows of {column.table} from this role: "
            "their file names are not recorded, so those files stay.\n"
        )
    if can_be_locked:
        sql.execute(using, _LOCK.format(**names))
    count = sql.execute(using, _RECORD.format(**names), parameters)
    if count and not known:
        sql.execute(using, _NOTE.format(columns=_column_table(ledger)), [source, column.storage_key])
    return {source: count}


def note_new(using: str, field: models.Field[Any, Any]) -> None:
    """Tell processes that do not know this column that they run older code; in the open transaction."""
    ledger, column = read_ledger(using), column_of(field, using)
    if ledger is None or not ledger.has_column_table or column is None:
        return
    place = {"source": column.source, "table": column.table, "column": column.column, "storage_key": column.storage_key}
    # It may take the place of the note that tells where the files of a dropped column are.
    retire_at_once(using, ledger, column.source, column.storage_key)
    sql.execute(using, _NOTE_NEW.format(columns=_column_table(ledger)), place)


def _names(column: FileColumn, ledger: Ledger) -> dict[str, str]:
    parts = [f"pg_catalog.concat(o.{sql.quote_identifier(part)})" for part in column.primary_key]
    names = {
        "ledger": sql.qualified(ledger.schema, LEDGER),
        "table": column.table,
        "column": sql.quote_identifier(column.column),
        "key": key_as_text(parts),
    }
    return {name: sql.literal_percent(text) for name, text in names.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _column_table(ledger: Ledger) -> str:
    return sql.literal_percent(sql.qualified(ledger.schema, COLUMN_TABLE))
