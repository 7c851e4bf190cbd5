"""Compare what the file columns need with what the catalog has. Decides, runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pgcleanup.columns import FileColumn
from pgcleanup.triggers import render
from pgcleanup.triggers.catalog import Catalog, InstalledFunction, InstalledTrigger, Relation
from pgcleanup.triggers.render import Form, Kind, Table
from pgcleanup.triggers.tables import tables_to_record

_CONFIG = "search_path=pg_catalog, pg_temp"


class State(str, Enum):
    """How an installed trigger compares with the one that is needed."""

    INSTALLED = "installed"
    MISSING = "missing"
    OUTDATED = "outdated"
    DISABLED = "disabled"
    STRAY = "stray"


class Function(NamedTuple):
    """A record function as it should be."""

    name: str
    kind: Kind
    table: Table
    ledger_schema: str
    grant_to: frozenset[str] = frozenset()
    """The owners of a partitioned table, and of those below it, who could not attach partitions without EXECUTE."""
    portable: bool = False
    """Written into a migration, which runs on databases where the columns' numbers may be others."""

    @property
    def sql(self) -> str:
        """The statement that makes it."""
        return render.render_function(self.kind, self.table, self.ledger_schema)

    def comment(self, body_md5: str) -> str:
        """Return what is noted at the function: what it was made from, and the body that came of it."""
        digest = render.digest(self.kind, self.table, self.ledger_schema, portable=self.portable)
        return f"pgcleanup:{digest}:{body_md5}"


class Trigger(NamedTuple):
    """One trigger of a table, its state, and the function it fires."""

    table: Table
    name: str
    state: State
    kind: Kind
    function: Function
    needs_ddl: bool
    """Whether the trigger itself must be made, not only its function."""
    enabled: str = "O"
    """`pg_trigger.tgenabled`: what somebody did with ENABLE or DISABLE, which making it anew must not undo."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A trigger of ours that nothing needs any more."""

    table: Relation
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed and how it compares with what is there."""

    triggers: tuple[Trigger, ...]
    outdated_functions: frozenset[str]
    stray_triggers: tuple[Stray, ...]
    stray_functions: tuple[str, ...]

    @property
    def recorded(self) -> tuple[int, int]:
        """How many file columns are recorded, and of how many tables. A partition counts with its root."""
        tables = [trigger.table for trigger in self.triggers]
        columns = {column.source for table in tables for column in table.file_columns}
        return len(columns), len({table.functions_of or (table.schema, table.name) for table in tables})

    @property
    def incomplete(self) -> tuple[Trigger, ...]:
        """The triggers that record nothing, or not what they should."""
        return tuple(trigger for trigger in self.triggers if trigger.state is not State.INSTALLED)

    @property
    def is_noop(self) -> bool:
        """Whether a sync would change nothing. A trigger that somebody disabled is left to them."""
        unchanged = {State.INSTALLED, State.DISABLED}
        return (
            all(trigger.state in unchanged for trigger in self.triggers)
            and not self.outdated_functions
            and not self.stray_triggers
            and not self.stray_functions
        )


def make_plan(catalog: Catalog, columns: Iterable[FileColumn]) -> Plan:
    """Work out which triggers and functions the recorded columns need here."""
    tables = tables_to_record(catalog, [column for column in columns if column.recorded])
    own = {
        (table.schema, table.name): dict(_functions(table, tables, catalog))
        for table in tables
        if table.functions_of is None
    }
    functions = {table.oid: own[table.functions_of or (table.schema, table.name)] for table in tables}
    current = {
        function.name
        for of_table in functions.values()
        for function in of_table.values()
        if _is_current(function, catalog.functions.get(function.name))
    }
    triggers = tuple(
        _trigger(table, kind, functions[table.oid][kind], current, catalog)
        for table in tables
        for kind in render.trigger_kinds(table, catalog.ledger.server_version)
    )
    clones = tuple(_disabled_clones(tables, functions, catalog))
    needed = {trigger.function.name: trigger.function for trigger in triggers}
    wanted = {(trigger.table.oid, trigger.name) for trigger in triggers}
    return Plan(
        triggers=tuple(sorted((*triggers, *clones), key=lambda trigger: trigger.table.label)),
        outdated_functions=frozenset(set(needed) - current),
        stray_triggers=tuple(
            Stray(relation, trigger.name)
            for relation in catalog.relations
            for trigger in relation.triggers
            if not trigger.cloned and (relation.oid, trigger.name) not in wanted
        ),
        stray_functions=tuple(sorted(set(catalog.functions) - set(needed))),
    )


def _functions(owner: Table, tables: list[Table], catalog: Catalog) -> Iterator[tuple[Kind, Function]]:
    """Yield the functions that the triggers of a table fire, and those of its partitions."""
    for kind in Kind:
        name = render.function_name(kind, owner)
        installed = catalog.functions.get(name)
        runs_as = installed.owner if installed else catalog.ledger.user
        attaches = _owners_below(owner, tables) if kind is Kind.ROW else frozenset()
        yield kind, Function(name, kind, owner, catalog.ledger.schema, grant_to=attaches - {runs_as})


def _owners_below(root: Table, tables: list[Table]) -> frozenset[str]:
    """Return who may attach partitions: the owners of the partitioned tables of one tree."""
    if root.form is not Form.PARTITIONED:
        return frozenset()
    place = (root.schema, root.name)
    return frozenset(
        table.owner
        for table in tables
        if table.form is Form.PARTITIONED and place in ((table.schema, table.name), table.functions_of)
    )


def _disabled_clones(
    tables: list[Table], functions: Mapping[int, Mapping[Kind, Function]], catalog: Catalog
) -> Iterator[Trigger]:
    """Yield the row triggers of partitions that were disabled there alone: the root's own fires for no row."""
    roots = {(table.schema, table.name): table for table in tables if table.form is Form.PARTITIONED}
    for table in tables:
        root = roots.get(table.functions_of) if table.functions_of and table.has_clone else None
        if root is None:
            continue
        name = render.trigger_name(Kind.ROW, root)
        of_root = _installed(root, name, catalog)
        here = _installed(table, name, catalog)
        if of_root and of_root.fires and here and not here.fires:
            function = functions[table.oid][Kind.ROW]
            yield Trigger(table, name, State.DISABLED, Kind.ROW, function, needs_ddl=False, enabled=here.enabled)


def _trigger(table: Table, kind: Kind, function: Function, current: set[str], catalog: Catalog) -> Trigger:
    name = render.trigger_name(kind, table)
    installed = _installed(table, name, catalog)
    needs_ddl = (
        installed is None or installed.function != function.name or installed.type != render.trigger_type(kind, table)
    )
    is_current = not needs_ddl and function.name in current
    enabled = installed.enabled if installed else "O"
    return Trigger(table, name, _state(installed, needs_ddl, is_current), kind, function, needs_ddl, enabled)


def _installed(table: Table, name: str, catalog: Catalog) -> InstalledTrigger | None:
    return next((trigger for trigger in catalog.by_oid[table.oid].triggers if trigger.name == name), None)


def _state(installed: InstalledTrigger | None, needs_ddl: bool, current: bool) -> State:
    if installed is None:
        return State.MISSING
    if not needs_ddl and not installed.fires:
        # Whatever its function is like: that one is replaced all the same.
        return State.DISABLED
    return State.INSTALLED if current else State.OUTDATED


def _is_current(function: Function, installed: InstalledFunction | None) -> bool:
    """Whether the installed function is the needed one, untouched: a dump restored without privileges, for
    example, opens it to everybody, and default privileges to somebody."""
    return (
        installed is not None
        # The second is asked only where the first differs: a sync with nothing to do takes a few milliseconds.
        and (
            installed.comment == function.comment(installed.body_md5)
            or installed.comment == function._replace(portable=True).comment(installed.body_md5)
        )
        and installed.security_definer
        and installed.config == _CONFIG
        and installed.owner_may_record
        and installed.grantees == function.grant_to
    )
