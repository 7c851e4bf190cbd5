"""File columns of another version of the code: the database has them, and this code's models have not.

A `migrate` of one app while another's migrations wait, one of old code after a rollback, or one that takes migrations
back with the code that has them: after each, a column that still holds names has a label that the models do not know.
To forget it would let a drain of this code delete files that its rows name, and to drop its trigger would lose names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models import FileField

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.triggers.catalog import COLUMN_TABLE, Catalog
from pgcleanup.triggers.coverage import HAS_VANISHED, KnownColumn

_THERE = f"""
SELECT k.source FROM {{table}} k
 WHERE k.source = ANY(%s) AND k.table_name IS NOT NULL AND NOT {HAS_VANISHED}
"""  # noqa: S608 -- only constants


def columns_of_another_version(
    using: str, catalog: Catalog, columns: FileColumns, known: Sequence[KnownColumn], needed: Sequence[KnownColumn]
) -> list[KnownColumn]:
    """Return the rows of the column table that a sync of this code must leave as they are.

    Asks the database, and Django for its migrations, only where a row would go or lose its place.
    """
    going = [row for row in _going(known, needed) if not _is_left_out_by_settings(row, needed)]
    if not going:
        return []
    table = sql.qualified(catalog.ledger.schema, COLUMN_TABLE)
    rows = sql.fetch(using, _THERE.format(table=table), [[row.source for row in going]])
    there = {source for (source,) in rows}
    half = _tables_that_lack_a_column(catalog, columns)
    migrated = Migrated(using)
    return [row for row in going if row.source in there and (row.table_oid in half or migrated.have(row))]


def without(
    catalog: Catalog, columns: Iterable[FileColumn], left: Sequence[KnownColumn]
) -> tuple[Catalog, list[FileColumn]]:
    """Return both as if the tables of these rows, and those below them, were not there: nothing is done to them."""
    columns = list(columns)
    if not left:
        return catalog, columns
    oids = {row.table_oid for row in left}
    oids |= {relation.oid for relation in catalog.relations if not oids.isdisjoint(relation.roots)}
    fired = {t.function for relation in catalog.relations if relation.oid in oids for t in relation.triggers}
    relations = tuple(
        relation._replace(triggers=tuple(t for t in relation.triggers if t.function not in fired))
        for relation in catalog.relations
    )
    functions = {name: function for name, function in catalog.functions.items() if name not in fired}
    of_others = {quoted for relation in catalog.relations if relation.oid in oids for quoted in relation.quoted}
    return replace(catalog, relations=relations, functions=functions), [c for c in columns if c.table not in of_others]


def explained(source: str) -> tuple[str, str]:
    """Say why a column is left as it is, and what to do."""
    return (
        f"The database has the file column {source}, and the models of this code have not. What is known of it and "
        "what records it stay as they are, and no drain of this code deletes files of its storage.",
        "Apply the migrations that wait, or deploy the code that goes with the database.",
    )


class Migrated:
    """What the migrations that are applied have made. Loaded when it is asked for: it takes long."""

    def __init__(self, using: str) -> None:
        self._using = using

    def have(self, row: KnownColumn) -> bool:
        """Whether they say that there is such a file column, or whether newer ones may: those of other code."""
        try:
            # A savepoint: a role that may not read django_migrations must not take the caller's transaction down.
            with transaction.atomic(using=self._using):
                return self._have(row)
        except Exception:  # whatever a project's migrations raise: what they say is not known
            return True

    def _have(self, row: KnownColumn) -> bool:
        label, model, field = row.source.split(".")
        loader = self._loader
        if label not in loader.migrated_apps:
            return False
        if self._last_applied(label) not in {name for app, name in loader.disk_migrations if app == label}:
            return True
        of_model = self._state.models.get((label, model))
        found = of_model.fields.get(field) if of_model else None
        # An extra reference is a field of any class.
        return isinstance(found, FileField) or (found is not None and row.storage_key is None)

    @cached_property
    def _loader(self) -> MigrationLoader:
        return MigrationLoader(connections[self._using], ignore_no_migrations=True)

    @cached_property
    def _state(self) -> ProjectState:
        loader = self._loader
        return loader.project_state([node for node in loader.graph.nodes if node in loader.applied_migrations])

    def _last_applied(self, label: str) -> str | None:
        # Not any that this code lacks: those that a squashed one has replaced stay in the table for ever.
        of_app = MigrationRecorder(connections[self._using]).migration_qs.filter(app=label)
        return of_app.order_by("id").values_list("name", flat=True).last()


def _going(known: Iterable[KnownColumn], needed: Sequence[KnownColumn]) -> Iterator[KnownColumn]:
    """Yield the rows whose column no label of this code has, and whose own label has no column."""
    known = list(known)
    now = {row.source: row for row in needed if row.attnum}
    # After a dump and restore columns have lower numbers: there a number tells nothing of who has the column.
    renumbered = {
        row.table_oid
        for row in known
        if row.attnum
        and row.source in now
        and now[row.source].table_oid == row.table_oid
        and (now[row.source].attnum or 0) < row.attnum
    }
    places = {row.place for row in now.values() if row.table_oid not in renumbered}
    return (row for row in known if row.attnum and row.place not in places and row.source not in now)


def _is_left_out_by_settings(row: KnownColumn, needed: Sequence[KnownColumn]) -> bool:
    """Whether this code has the field, and does not want it to count."""
    if any(row.source == other.source for other in needed):
        return False
    label, model, name = row.source.split(".")
    try:
        field = apps.get_model(label, model)._meta.get_field(name)
    except (LookupError, FieldDoesNotExist):
        return False
    return isinstance(field, FileField) or row.storage_key is None


def _tables_that_lack_a_column(catalog: Catalog, columns: FileColumns) -> set[int]:
    """Return the tables of which the models have a column that the database has not: one of the two is ahead."""
    found = ((catalog.by_quoted_name.get(column.table), column.column) for column in columns)
    return {relation.oid for relation, name in found if relation and name not in relation.attributes}
