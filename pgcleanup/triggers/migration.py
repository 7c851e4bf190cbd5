"""The triggers as a migration of the project's own, for teams that let nothing but reviewed migrations touch a schema.

The text is complete: the SQL is in it, so it replays the same whatever version of pgcleanup is installed then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pgcleanup import __version__, sql, templates
from pgcleanup.columns import FileColumn
from pgcleanup.conf import settings
from pgcleanup.triggers import install, render
from pgcleanup.triggers.catalog import Catalog
from pgcleanup.triggers.plan import Plan, Trigger, make_plan
from pgcleanup.triggers.render import LEDGER

TEMPLATE = "install_triggers.v1.py-tpl"
MAKES_THE_LEDGER = ("pgcleanup", "0001_initial")
"""All that the record functions need."""

_DEFINITIONS = """
SELECT p.proname, pg_catalog.pg_get_functiondef(p.oid), coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '')
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %(schema)s AND p.proname = ANY (%(functions)s)
"""
_TRIGGERS = """
SELECT g.tgrelid::bigint, g.tgname, pg_catalog.pg_get_triggerdef(g.oid)
  FROM pg_catalog.pg_trigger g
 WHERE (g.tgrelid::bigint, g.tgname) IN (SELECT * FROM unnest(%(tables)s::bigint[], %(names)s::text[]))
"""


@dataclass(slots=True)
class Step:
    """What brings one table in step, and what takes it back to where it was."""

    table: str
    """Quoted. The functions of a table go with it; those that nothing needs have no table but the ledger."""
    forwards: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Statements:
    """What brings one database in step, table by table, and is taken back in the other order."""

    steps: list[Step]
    ledger: str
    apps: tuple[str, ...]
    """The apps whose tables they are of, sorted."""

    @property
    def count(self) -> int:
        """How many statements bring the database in step."""
        return sum(len(step.forwards) for step in self.steps)


def statements(using: str, catalog: Catalog, columns: Iterable[FileColumn], *, everything: bool = False) -> Statements:
    """Return what the database lacks, or, with `everything`, all that it needs, as if it had nothing of ours."""
    if everything:
        bare = tuple(relation._replace(triggers=()) for relation in catalog.relations)
        catalog = replace(catalog, relations=bare, functions={})
    plan = make_plan(catalog, columns)
    triggers = [trigger._replace(function=trigger.function._replace(portable=True)) for trigger in plan.triggers]
    ledger = sql.qualified(catalog.ledger.schema, LEDGER)
    steps = [
        *_functions_and_triggers(using, triggers, plan, catalog),
        *_strays(using, plan, catalog),
        *_stray_functions(using, plan, catalog, ledger),
    ]
    return Statements(steps, ledger, tuple(sorted(_apps(triggers, plan))))


def render_migration(found: Statements, title: str, database: str, dependencies: Iterable[tuple[str, str]]) -> str:
    """Return the text of the migration."""
    names = [TEMPLATE, *render.template_names()]
    return templates.render(
        TEMPLATE,
        title=title,
        version=__version__,
        database=_literal(database),
        ledger=_literal(found.ledger),
        lock_timeout=f'"{sql.milliseconds(settings.lock_timeout.total_seconds())}"',
        templates="\n".join(f"  {name}  {templates.digest(name)[:32]}" for name in names),
        operations="\n".join(map(_operation, found.steps)),
        dependencies="\n".join(f"        ({_literal(app)}, {_literal(name)})," for app, name in dependencies),
    )


def _operation(step: Step) -> str:
    lists = [
        "".join(f"                {_literal(text)},\n" for text in part) for part in (step.forwards, step.backwards)
    ]
    parts = "".join(f"            [\n{part}            ],\n" for part in lists)
    return f"        ForTable(\n            {_literal(step.table)},\n{parts}        ),"


def _functions_and_triggers(using: str, triggers: list[Trigger], plan: Plan, catalog: Catalog) -> Iterable[Step]:
    """Return a step for each table: first those whose functions others share, partitioned ones."""
    functions = {t.function.name: t.function for t in triggers if t.function.name in plan.outdated_functions}
    before = dict(_definitions(using, functions, catalog))
    steps: dict[str, Step] = {}
    for name, function in functions.items():
        step = steps.setdefault(function.table.quoted, Step(function.table.quoted))
        step.forwards += map(_one_statement, install.function_statements(function, catalog, where_role_exists))
        step.backwards += before.get(name) or [install.drop_function(catalog.ledger, name)]
    made = [trigger for trigger in triggers if trigger.needs_ddl]
    replaced = _trigger_definitions(using, [(t.table.oid, t.name) for t in made], catalog)
    for trigger in made:
        step = steps.setdefault(trigger.table.quoted, Step(trigger.table.quoted))
        step.forwards += install.trigger_statements(trigger, catalog)
        drop = f"DROP TRIGGER IF EXISTS {sql.quote_identifier(trigger.name)} ON {trigger.table.quoted}"
        # Before the function goes that it fires.
        step.backwards.insert(0, replaced.get((trigger.table.oid, trigger.name), drop))
    return steps.values()


def _strays(using: str, plan: Plan, catalog: Catalog) -> Iterator[Step]:
    """Yield what drops the triggers that nothing needs, when those that take their place stand."""
    there = _trigger_definitions(using, [(stray.table.oid, stray.name) for stray in plan.stray_triggers], catalog)
    for stray in plan.stray_triggers:
        table = sql.qualified(stray.table.schema, stray.table.name)
        before = there.get((stray.table.oid, stray.name))
        yield Step(table, [install.drop_trigger(stray)], [before] if before else [])


def _stray_functions(using: str, plan: Plan, catalog: Catalog, ledger: str) -> Iterator[Step]:
    if plan.stray_functions:
        before = dict(_definitions(using, plan.stray_functions, catalog))
        drops = [install.drop_function(catalog.ledger, name) for name in plan.stray_functions]
        yield Step(ledger, drops, [text for name in plan.stray_functions for text in before.get(name, ())])


def _definitions(using: str, names: Iterable[str], catalog: Catalog) -> Iterator[tuple[str, list[str]]]:
    """Yield the functions that are there by their name, with what makes each of them as it is."""
    schema = catalog.ledger.schema
    there = sorted(set(names) & catalog.functions.keys())
    for name, definition, comment in sql.fetch(using, _DEFINITIONS, {"schema": schema, "functions": there}):
        function = sql.qualified(schema, name)
        installed = catalog.functions[name]
        others = sorted(installed.grantees - {"-"})
        grants = [where_role_exists(f"GRANT EXECUTE ON FUNCTION {function}() TO {role}", role) for role in others]
        yield (
            name,
            [
                _one_statement(definition),
                f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
                *grants,
                f"COMMENT ON FUNCTION {function}() IS {sql.quote_literal(comment)}",
            ],
        )


def _trigger_definitions(using: str, places: list[tuple[int, str]], catalog: Catalog) -> dict[tuple[int, str], str]:
    """Return what makes each of these triggers that are there as it is."""
    there = {(relation.oid, trigger.name) for relation in catalog.relations for trigger in relation.triggers}
    wanted = {"tables": [oid for oid, _ in places], "names": [name for _, name in places]}
    return {
        # To be run again, where a table was busy.
        (oid, name): definition.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)
        for oid, name, definition in sql.fetch(using, _TRIGGERS, wanted)
        if (oid, name) in there
    }


def where_role_exists(statement: str, role: str) -> str:
    """Return a statement that is left out where there is no such role (quoted)."""
    body = f"BEGIN IF pg_catalog.to_regrole({sql.quote_literal(role)}) IS NOT NULL THEN {statement}; END IF; END"
    return f"DO {sql.quote_literal(body)}"


def _apps(triggers: list[Trigger], plan: Plan) -> set[str]:
    return {
        column.source.partition(".")[0]
        for trigger in triggers
        for column in trigger.table.file_columns
        if trigger.needs_ddl or trigger.function.name in plan.outdated_functions
    }


def _one_statement(text: str) -> str:
    return text.strip().removesuffix(";")


def _literal(text: str) -> str:
    """Return a string as Python source, readable where it has several lines."""
    if "\n" in text and "\\" not in text and '"""' not in text:
        return f'"""\n{text}\n"""'
    return repr(text)
