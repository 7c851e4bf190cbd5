"""Record triggers: render them, compare them with the database, keep the two in step.

`sync` is what `migrate` runs; `inspect` is its read-only half, which every drain runs, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import DatabaseError, connections

from pgcleanup import sql
from pgcleanup.columns import FileColumn, FileColumns, find_file_columns
from pgcleanup.conf import settings
from pgcleanup.exceptions import PendingEntries
from pgcleanup.triggers import coverage, history, install
from pgcleanup.triggers.catalog import COLUMN_TABLE, Catalog, Ledger, read_catalog, read_ledger
from pgcleanup.triggers.missing import find_remains, how_to_install, how_to_make_tables, installing
from pgcleanup.triggers.plan import Plan, State, Trigger, make_plan
from pgcleanup.triggers.retired import retire_taken
from pgcleanup.triggers.versions import columns_of_another_version, without

__all__ = [
    "COLUMN_TABLE",
    "Inspection",
    "Plan",
    "State",
    "SyncReport",
    "Trigger",
    "how_to_install",
    "how_to_make_tables",
    "inspect",
    "installing",
    "read_ledger",
    "refuse_while_pending",
    "sync",
    "uninstall",
]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one database has and lacks."""

    ledger: Ledger
    catalog: Catalog
    plan: Plan
    known: list[coverage.KnownColumn]
    needed: list[coverage.KnownColumn]
    history: State | None = None
    """Of the trigger that keeps the history as it was written; None where there is no history."""
    left: tuple[coverage.KnownColumn, ...] = ()
    """Columns of another version of the code: what is known of them and what records them is not touched."""

    @property
    def columns_current(self) -> bool:
        """Whether the column table says what this process would write."""
        known = [row for row in self.known if not row.is_dropped]
        return self.ledger.has_column_table and sorted(known, key=str) == sorted(self.needed, key=str)

    def still_records(self, column: FileColumn) -> bool:
        """Whether a trigger that fires now was made when this excluded column was none."""
        relation = self.catalog.by_quoted_name.get(column.table)
        if relation is None:
            return False
        stray = any(trigger.table.oid == relation.oid for trigger in self.plan.stray_triggers)
        return stray or any(t.table.oid == relation.oid and t.state is State.OUTDATED for t in self.plan.triggers)

    def problems(self) -> list[str]:
        """Return a line for each table whose names are not recorded as they should be, sorted."""
        states: dict[str, set[State]] = {}
        for trigger in self.plan.incomplete:
            states.setdefault(trigger.table.label, set()).add(trigger.state)
        return [f"{table}: trigger {' and '.join(sorted(s.value for s in states[table]))}" for table in sorted(states)]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync changed, and what it could not."""

    changed: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """Sources whose column the database has dropped since the last sync."""
    left: list[str] = field(default_factory=list)
    """Sources of another version of the code, which were left as they are: see `pgcleanup.triggers.versions`."""
    columns: int = 0
    """How many file columns the triggers record, and of how many tables."""
    tables: int = 0


def inspect(using: str, columns: FileColumns | None = None) -> Inspection | None:
    """Compare the database with the code, without a lock on any user's table.

    Returns:
        None where there is no ledger: not PostgreSQL, or not migrated.
    """
    if connections[using].vendor != "postgresql":
        return None
    ledger = read_ledger(using)
    if ledger is None:
        return None
    columns = find_file_columns(using) if columns is None else columns
    catalog = read_catalog(using, ledger, columns)
    known, needed = coverage.read_rows(using, ledger), coverage.needed_rows(columns, catalog)
    left = columns_of_another_version(using, catalog, columns, known, needed)
    plan = make_plan(*without(catalog, columns, left))
    return Inspection(ledger, catalog, plan, known, needed, history.guard_state(using, ledger), tuple(left))


def sync(using: str, *, triggers: bool | None = None) -> SyncReport | None:
    """Bring triggers, functions and column table in step with the installed models.

    Each table is committed by itself. Where nothing differs this is three catalog queries and no lock.
    What could not be installed is in the report; nothing is raised for it.

    Args:
        using: the database alias.
        triggers: False writes the column table only; None is the setting PGCLEANUP_SYNC_ON_MIGRATE.

    Returns:
        None where there is no ledger: not PostgreSQL, or not migrated.
    """
    found = inspect(using)
    if found is None:
        return None
    columns, tables = found.plan.recorded
    disabled = [trigger.table.label for trigger in found.plan.triggers if trigger.state is State.DISABLED]
    left = [row.source for row in found.left]
    report = SyncReport(disabled=disabled, columns=columns, tables=tables, left=left)
    is_retired = _retire_taken(using, found, report)
    if (settings.sync_on_migrate if triggers is None else triggers) and not found.plan.is_noop:
        changed, failed = install.install(using, found.plan, found.catalog)
        report.changed.extend(changed)
        report.failed.extend(failed)
    # Without it the labels would mean the new columns. As long as the tables differ, no drain deletes anything there.
    if is_retired and not found.columns_current:
        try:
            dropped = install.with_retries(
                using, lambda: coverage.write_rows(using, found.ledger, found.needed, found.left)
            )
        except DatabaseError as error:
            report.failed.append((COLUMN_TABLE, str(error).splitlines()[0]))
        else:
            report.changed.append(COLUMN_TABLE)
            report.dropped.extend(dropped)
    if (settings.sync_on_migrate if triggers is None else triggers) and found.history in (
        State.MISSING,
        State.OUTDATED,
    ):
        _guard_history(using, found.ledger, report)
    return report


def uninstall(using: str, *, discard_pending: bool = False) -> int:
    """Take every trigger and function of ours out of the database; user writes go on throughout.

    The functions are emptied first, which locks no table; then the triggers go table by table. With
    `discard_pending` the pending entries are forgotten at the end, and their files stay for ever. A ledger that is
    gone is not in the way.

    Returns:
        The number of entries that were forgotten.

    Raises:
        PendingEntries: the ledger still holds entries, and they were not to be discarded.
        DatabaseError: a table stayed busy. The triggers still there do nothing; call again.
    """
    if connections[using].vendor != "postgresql":
        return 0
    ledger = read_ledger(using)
    if is_lost := ledger is None:
        ledger = find_remains(using)
    if ledger is None:
        return 0
    if not discard_pending:
        refuse_while_pending(using)
    catalog = read_catalog(using, ledger, FileColumns())
    install.idle_functions(using, ledger, catalog.functions)
    if not discard_pending and not is_lost:
        _look_again(using, ledger)
    plan = make_plan(catalog, ())
    _, failed = install.install(using, plan, catalog)
    if failed:
        raise DatabaseError("; ".join(f"{table}: {error}" for table, error in failed))
    history.drop_guard(using)
    sql.execute(using, f"DROP TABLE IF EXISTS {sql.qualified(ledger.schema, COLUMN_TABLE)}")
    if not discard_pending or is_lost:
        return 0
    sql.execute(using, f"DELETE FROM {sql.qualified(ledger.schema, 'file_deletion_stamp')}")  # noqa: S608
    return sql.execute(using, f"DELETE FROM {sql.qualified(ledger.schema, 'pending_file_deletion')}")  # noqa: S608


def refuse_while_pending(using: str) -> None:
    """Raise PendingEntries if the ledger of this database, where it has one, holds an entry."""
    ledger = read_ledger(using) if connections[using].vendor == "postgresql" else None
    if ledger is None:
        return
    pending = sql.fetch(using, f"SELECT EXISTS (SELECT FROM {sql.qualified(ledger.schema, 'pending_file_deletion')})")  # noqa: S608
    if pending[0][0]:
        raise PendingEntries(
            f'database "{using}" still has pending file deletions. Drain them first (manage.py drain_deletions), or '
            "forget them (manage.py pgcleanup uninstall --discard-pending); their files then stay for ever."
        )


def _retire_taken(using: str, found: Inspection, report: SyncReport) -> bool:
    try:
        retire_taken(using, found.ledger, found.known, found.needed)
    except DatabaseError as error:
        report.failed.append((COLUMN_TABLE, str(error).splitlines()[0]))
        return False
    return True


def _guard_history(using: str, ledger: Ledger, report: SyncReport) -> None:
    try:
        install.with_retries(using, lambda: history.install_guard(using, ledger.schema))
    except DatabaseError as error:
        report.failed.append((history.HISTORY, str(error).splitlines()[0]))
    else:
        report.changed.append(history.HISTORY)


def _look_again(using: str, ledger: Ledger) -> None:
    """Wait for the transactions that recorded a name before the functions were emptied, and look for it.

    If there is one, or if such a transaction stays open, everything is put back as it was.
    """
    table = sql.qualified(ledger.schema, "pending_file_deletion")
    try:
        with sql.short_transaction(using, lock_timeout="30s"):
            sql.execute(using, f"LOCK TABLE {table} IN SHARE MODE")
            pending = sql.fetch(using, f"SELECT EXISTS (SELECT FROM {table})")[0][0]  # noqa: S608 -- quoted above
    except DatabaseError:
        sync(using, triggers=True)
        raise
    if pending:
        sync(using, triggers=True)
        raise PendingEntries(f'a file name was let go in database "{using}" meanwhile. Drain again, then call again.')
