"""Which tables are recorded as they should be, in sentences that end with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pgcleanup.drain.agreement import ADVICE
from pgcleanup.sql import quote_identifier
from pgcleanup.status.words import listed, plural
from pgcleanup.triggers import Inspection, Plan, State, how_to_install, versions
from pgcleanup.triggers.history import HISTORY, enable_statement


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """One table: the sources that its triggers record, and how its triggers are."""

    table: str
    columns: tuple[str, ...]
    states: tuple[str, ...]
    """Of its triggers, each once: installed, missing, outdated, disabled, stray."""

    def __str__(self) -> str:
        """Say it in a line."""
        names = [column.rpartition(".")[2] for column in self.columns]
        return f"{self.table}: {', '.join(names) or 'nothing'}: {' and '.join(self.states)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What of the file columns of a database its triggers record. Tables as "schema.table", sorted."""

    columns: int
    tables: int
    missing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    disabled: tuple[tuple[str, str], ...] = ()
    """Table, and the statement that enables its trigger. `sync` leaves to people what people disabled."""
    stray: tuple[str, ...] = ()
    """Tables with a trigger of ours that nothing needs any more."""
    stray_functions: tuple[str, ...] = ()
    columns_known: bool = True
    """Whether the database knows of the same file columns as this process."""
    left: tuple[str, ...] = ()
    """Sources of another version of the code, which a sync of this one leaves as they are."""
    uninstalled: bool = False
    """Whether none of the triggers that are needed is there."""
    history: str | None = None
    """What is wrong with the trigger that keeps the history as it was written: "missing", "outdated", "disabled"."""
    history_schema: str = ""
    by_table: tuple[WatchedTable, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every name that goes is recorded, and a drain may delete."""
        return self.columns_known and self.triggers_in_place

    @property
    def triggers_in_place(self) -> bool:
        """Whether every trigger is there, current and enabled."""
        return not (self.missing or self.outdated or self.disabled)

    def problems(self, using: str) -> Iterator[tuple[str, str]]:
        """Yield a sentence for each thing that is wrong, and one that tells what mends it."""
        install = how_to_install(using)
        if self.missing:
            yield f"{_have(self.missing, 'no trigger')} files are NOT recorded: {listed(self.missing)}.", install
        if self.outdated:
            what = _have(self.outdated, "an outdated trigger")
            yield f"{what} files may not all be recorded: {listed(self.outdated)}.", install
        for table, statement in self.disabled:
            yield (
                f"Somebody disabled a trigger of {table}, so its files are NOT recorded.",
                f"To enable it: {statement}",
            )
        for source in self.left:
            yield versions.explained(source)
        if not self.columns_known and not self.left:
            yield (
                f'This process and database "{using}" do not agree on what the file columns are, so no drain of this '
                "code deletes their files.",
                ADVICE,
            )

    def history_problems(self, using: str) -> Iterator[tuple[str, str]]:
        """Yield, as `problems` does, that the history can be changed. Deletions go on all the same."""
        if self.history is not None:
            sentence = f'The history in database "{using}" can be changed unnoticed: its trigger is {self.history}.'
            if self.history == State.DISABLED.value:
                yield sentence, f"To enable it: {enable_statement(self.history_schema)}"
            else:
                # No migration of the project's own has this one: it is on a table of ours.
                yield sentence, f"Run: manage.py pgcleanup sync --database {using}"

    def differences(self) -> Iterator[str]:
        """Yield a line for each thing that a sync would change."""
        yield from (f"{table}: trigger missing" for table in self.missing)
        yield from (f"{table}: trigger outdated" for table in self.outdated)
        yield from (f"{table}: trigger not needed any more" for table in self.stray)
        yield from (f"function {name}: not needed any more" for name in self.stray_functions)
        yield from (versions.explained(source)[0] for source in self.left)
        if not self.columns_known and not self.left:
            yield "the table of file columns differs from these models and settings"
        if self.history in (State.MISSING.value, State.OUTDATED.value):
            yield f"{self.history_schema}.{HISTORY}: trigger {self.history}"


def coverage_of(inspection: Inspection) -> Coverage:
    """Sort what an inspection found by what is to be done about it."""
    plan = inspection.plan
    columns, tables = plan.recorded
    return Coverage(
        columns=columns,
        tables=tables,
        missing=_tables(t.table.label for t in plan.triggers if t.state is State.MISSING),
        outdated=_tables(t.table.label for t in plan.triggers if t.state is State.OUTDATED),
        disabled=tuple(
            (
                trigger.table.label,
                f"ALTER TABLE {trigger.table.quoted} ENABLE TRIGGER {quote_identifier(trigger.name)};",
            )
            for trigger in plan.triggers
            if trigger.state is State.DISABLED
        ),
        stray=_tables(f"{stray.table.schema}.{stray.table.name}" for stray in plan.stray_triggers),
        stray_functions=plan.stray_functions,
        columns_known=inspection.columns_current,
        left=tuple(row.source for row in inspection.left),
        uninstalled=bool(plan.triggers) and all(t.state is State.MISSING for t in plan.triggers),
        history=None if inspection.history in (None, State.INSTALLED) else inspection.history.value,
        history_schema=inspection.ledger.schema,
        by_table=tuple(_by_table(plan)),
    )


def _by_table(plan: Plan) -> Iterator[WatchedTable]:
    columns: dict[str, tuple[str, ...]] = {}
    states: dict[str, set[str]] = {}
    for trigger in plan.triggers:
        columns[trigger.table.label] = tuple(column.source for column in trigger.table.file_columns)
        states.setdefault(trigger.table.label, set()).add(trigger.state.value)
    for stray in plan.stray_triggers:
        states.setdefault(f"{stray.table.schema}.{stray.table.name}", set()).add(State.STRAY.value)
    return (WatchedTable(table, columns.get(table, ()), tuple(sorted(states[table]))) for table in sorted(states))


def _tables(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(labels)))


def _have(tables: tuple[str, ...], what: str) -> str:
    one = len(tables) == 1
    return f"{plural(len(tables), 'table')} {'has' if one else 'have'} {what}, so {'its' if one else 'their'}"
