"""Whatever a transaction does: the ledger has exactly the names that its rows let go, once for each time."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import recorded, session

SOURCES = {"project_place": "project.place.photo", "project_invoice": "project.invoice.scan"}
COLUMNS = {"project_place": "photo", "project_invoice": "scan"}

tables = st.sampled_from(sorted(SOURCES))
ids = st.integers(1, 3)
names = st.sampled_from(["", "a", "b", "it's 100%s"])
steps = st.one_of(
    st.tuples(st.just("insert"), tables, ids, names),
    st.tuples(st.just("update"), tables, ids, names),
    st.tuples(st.just("update all"), tables, names),
    st.tuples(st.just("delete"), tables, ids),
    st.tuples(st.just("delete all"), tables),
    st.tuples(st.just("upsert"), tables, ids, names),
    st.tuples(st.just("move"), tables, ids, ids),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("release")),
)

SQL = {
    "insert": "INSERT INTO {t} (id, {c}) VALUES (%s, %s) ON CONFLICT DO NOTHING",
    "update": "UPDATE {t} SET {c} = %s WHERE id = %s",
    "update all": "UPDATE {t} SET {c} = %s",
    "delete": "DELETE FROM {t} WHERE id = %s",
    "delete all": "DELETE FROM {t}",
    "upsert": "INSERT INTO {t} (id, {c}) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET {c} = excluded.{c}",
    # One statement that takes a name from one row and gives it to another.
    "move": "WITH gone AS (DELETE FROM {t} WHERE id = %s RETURNING {c}) UPDATE {t} SET {c} = gone.{c} FROM gone"
    " WHERE id = %s",
}


class Model:
    """What should be in the tables and in the ledger."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, str]] = {table: {1: "one", 2: "two"} for table in SOURCES}
        self.ledger: list[tuple[str, str, str]] = []

    def let_go(self, table: str, name: str, operation: str) -> None:
        if name:
            self.ledger.append((SOURCES[table], name, operation))

    def set(self, table: str, key: int, name: str) -> None:
        old = self.rows[table][key]
        if old != name:
            self.let_go(table, old, "UPDATE")
        self.rows[table][key] = name

    def delete(self, table: str, key: int) -> str:
        name = self.rows[table].pop(key)
        self.let_go(table, name, "DELETE")
        return name

    def apply(self, kind: str, table: str, *rest: Any) -> tuple[Any, ...]:
        """Do the step, and return the parameters of its SQL."""
        rows = self.rows[table]
        match kind, *rest:
            case "insert", key, name:
                rows.setdefault(key, name)
            case "upsert", key, name if key in rows:
                self.set(table, key, name)
            case "upsert", key, name:
                rows[key] = name
            case "update", key, name:
                if key in rows:
                    self.set(table, key, name)
                return (name, key)
            case "update all", name:
                for key in rows:
                    self.set(table, key, name)
            case "delete", key:
                if key in rows:
                    self.delete(table, key)
            case ["delete all"]:
                for key in list(rows):
                    self.delete(table, key)
            case "move", key, to:
                # PostgreSQL takes the row away once: an UPDATE of the row that the same statement deletes does nothing.
                if key in rows:
                    name = self.delete(table, key)
                    if to in rows:
                        self.set(table, to, name)
        return tuple(rest)


@pytest.mark.django_db(transaction=True)
@given(st.lists(steps, max_size=25))
@example([("savepoint",), ("delete all", "project_place"), ("rollback",), ("upsert", "project_place", 1, "a")])
@example([("move", "project_place", 1, 2), ("savepoint",), ("release",), ("move", "project_place", 2, 2)])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ledger_has_exactly_the_names_that_a_committed_transaction_let_go(program: list[tuple[Any, ...]]) -> None:
    model, saved = Model(), []
    with session() as writer:
        writer.execute("TRUNCATE project_place, project_restaurant, project_invoice, pending_file_deletion")
        for table, column in COLUMNS.items():
            writer.execute(f"INSERT INTO {table} (id, {column}) VALUES (1, 'one'), (2, 'two')")

        with writer.transaction():
            for kind, *arguments in program:
                match kind:
                    case "savepoint":
                        saved.append(deepcopy(model))
                        writer.execute(f"SAVEPOINT s{len(saved)}")
                    case "rollback" if saved:
                        writer.execute(f"ROLLBACK TO SAVEPOINT s{len(saved)}")
                        model = saved.pop()
                    case "release" if saved:
                        writer.execute(f"RELEASE SAVEPOINT s{len(saved)}")
                        saved.pop()
                    case "rollback" | "release":
                        pass
                    case _:
                        table, *_ = arguments
                        statement = SQL[kind].format(t=table, c=COLUMNS[table])
                        parameters = model.apply(kind, *arguments)
                        writer.execute(statement, parameters or None)

        rows = {table: dict(writer.execute(f"SELECT id, {column} FROM {table}")) for table, column in COLUMNS.items()}
    assert rows == model.rows
    assert recorded() == sorted(model.ledger)
