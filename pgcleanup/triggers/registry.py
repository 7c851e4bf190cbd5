"""Show the record triggers to django-pgtrigger: `manage.py pgtrigger ls | enable | disable | install | uninstall`.

They enter its registry but not `Meta.triggers`, which would make `makemigrations` write files into
third-party packages.
"""

from __future__ import annotations

from typing import Any

import pgtrigger
from django.db import connections
from pgtrigger import registry

from pgcleanup import sql
from pgcleanup.columns import find_file_columns
from pgcleanup.triggers import State, Trigger, inspect, sync
from pgcleanup.triggers.render import PREFIX, Kind

_STATUS = {
    State.INSTALLED: "INSTALLED",
    State.DISABLED: "INSTALLED",
    State.OUTDATED: "OUTDATED",
    State.MISSING: "UNINSTALLED",
}


class RecordTrigger(pgtrigger.Trigger):
    """A record trigger as django-pgtrigger sees it. What it is made of stays with `pgcleanup.triggers`."""

    when = pgtrigger.After
    operation = pgtrigger.Update
    func = "RETURN NULL;"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        super().__init__(name=f"{PREFIX}{kind.value}")

    def get_pgid(self, model: Any) -> str:
        """Return the plain name: ours has no `pgtrigger_` prefix, so `pgtrigger prune` leaves it alone."""
        return str(self.name)

    def register(self, *models: Any) -> None:
        """Enter the registry by its data, past the code that would also write `Meta.triggers`."""
        for model in models:
            registry._registry.data[self.get_uri(model)] = (model, self)

    def unregister(self, *models: Any) -> None:
        """Leave the registry."""
        for model in models:
            registry._registry.data.pop(self.get_uri(model), None)

    def get_installation_status(self, model: Any, database: str | None = None) -> tuple[str, bool | None]:
        """Return pgtrigger's word for the state, and whether the trigger is enabled."""
        if not self.allow_migrate(model, database=database):
            return "UNALLOWED", None
        if _inspection(database) is None:
            return "UNINSTALLED", None
        found = self._find(model, database)
        if found is None:
            # A partitioned table, for example, has no trigger for DELETE by statement.
            return "UNALLOWED", None
        return _STATUS[found.state], found.state is not State.DISABLED

    def install(self, model: Any, database: str | None = None) -> None:
        """Install whatever is missing or outdated in that database."""
        sync(database or "default", triggers=True)

    def uninstall(self, model: Any, database: str | None = None) -> None:
        """Drop the trigger; the next `migrate` brings it back."""
        self._alter(model, database, 'DROP TRIGGER IF EXISTS "{name}" ON {table}')

    def enable(self, model: Any, database: str | None = None) -> None:
        """Let the trigger fire again."""
        self._alter(model, database, 'ALTER TABLE {table} ENABLE TRIGGER "{name}"')

    def disable(self, model: Any, database: str | None = None) -> None:
        """Keep the trigger from firing: what changes meanwhile is not recorded."""
        self._alter(model, database, 'ALTER TABLE {table} DISABLE TRIGGER "{name}"')

    def _find(self, model: Any, database: str | None) -> Trigger | None:
        found = _inspection(database)
        table = sql.django_quoted(model._meta.db_table, database or "default")
        relation = found.catalog.by_quoted_name.get(table) if found and table else None
        if found is None or relation is None:
            return None
        mine = (t for t in found.plan.triggers if t.table.oid == relation.oid and t.kind is self.kind)
        return next(mine, None)

    def _alter(self, model: Any, database: str | None, statement: str) -> None:
        found = self._find(model, database)
        if found is not None and found.state is not State.MISSING:
            sql.execute(database or "default", statement.format(name=found.name, table=found.table.quoted))


def register_all() -> None:
    """Enter the triggers of every recorded table, once for each, for the PostgreSQL databases of the project."""
    tables: dict[str, Any] = {}
    for alias in connections:
        if connections[alias].vendor == "postgresql":
            for column in find_file_columns(alias):
                if column.recorded:
                    tables.setdefault(column.table, column.model)
    for model in tables.values():
        for kind in Kind:
            RecordTrigger(kind).register(model)


def _inspection(database: str | None) -> Any:
    return inspect(database or "default")
