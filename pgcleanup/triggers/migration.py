"""The triggers as a migration of the project's own, for teams that let nothing but reviewed migrations touch a schema.

The text is complete: the SQL is in it, so it replays the same whatever version of pgcleanup is installed then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from pgcleanup import __version__, sql, templates
from pgcleanup.columns import FileColumns
from pgcleanup.triggers import install, render
from pgcleanup.triggers.catalog import Catalog
from pgcleanup.triggers.plan import Plan, Trigger, make_plan

TEMPLATE = "install_triggers.v1.py-tpl"

_DEFINITIONS = """
SELECT p.proname, pg_get_functiondef(p.oid), coalesce(obj_description(p.oid, 'pg_proc'), '')
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %(schema)s AND p.proname = ANY (%(functions)s)
"""
_TRIGGERS = """
SELECT g.tgrelid::bigint, g.tgname, pg_get_triggerdef(g.oid)
  FROM pg_trigger g
 WHERE (g.tgrelid::bigint, g.tgname) IN (SELECT * FROM unnest(%(tables)s::bigint[], %(names)s::text[]))
"""


@dataclass(frozen=True, slots=True)
class Statements:
    """What brings one database in step, and what takes it back to where it was."""

    forwards: list[str]
    backwards: list[str]
    apps: tuple[str, ...]
    """The apps whose tables they are of, sorted."""


def statements(using: str, catalog: Catalog, columns: FileColumns, *, everything: bool = False) -> Statements:
    """Return what the database lacks, or, with `everything`, all that it needs, as if it had nothing of ours."""
    if everything:
        bare = tuple(replace(relation, triggers=()) for relation in catalog.relations)
        catalog = replace(catalog, relations=bare, functions={})
    plan = make_plan(catalog, columns)
    triggers = [replace(trigger, function=replace(trigger.function, portable=True)) for trigger in plan.triggers]
    return Statements(
        [_one_statement(text) for text in _forwards(triggers, plan, catalog)],
        [_one_statement(text) for text in _backwards(using, triggers, plan, catalog)],
        tuple(sorted(_apps(triggers, plan))),
    )


def render_migration(found: Statements, title: str, database: str, dependencies: Iterable[tuple[str, str]]) -> str:
    """Return the text of the migration."""
    names = [TEMPLATE, *render.template_names()]
    return templates.render(
        TEMPLATE,
        title=title,
        version=__version__,
        database=_literal(database),
        templates="\n".join(f"  {name}  {templates.digest(name)[:32]}" for name in names),
        forwards="\n".join(f"    {_literal(statement)}," for statement in found.forwards),
        backwards="\n".join(f"    {_literal(statement)}," for statement in found.backwards),
        dependencies="\n".join(f"        ({_literal(app)}, {_literal(name)})," for app, name in dependencies),
    )


def _forwards(triggers: list[Trigger], plan: Plan, catalog: Catalog) -> Iterator[str]:
    outdated = set(plan.outdated_functions)
    for _, group in groupby(triggers, key=lambda trigger: trigger.table.label):
        mine = list(group)
        yield from install.table_statements(mine, outdated, catalog)
        outdated -= {trigger.function.name for trigger in mine}
    yield from (install.drop_trigger(stray) for stray in plan.stray_triggers)
    yield from (install.drop_function(catalog.ledger, name) for name in plan.stray_functions)


def _backwards(using: str, triggers: list[Trigger], plan: Plan, catalog: Catalog) -> Iterator[str]:
    """Yield what puts every function and trigger back as the catalog has it now, and drops what it has not."""
    schema = catalog.ledger.schema
    replaced = sorted((plan.outdated_functions | set(plan.stray_functions)) & set(catalog.functions))
    for name, definition, comment in sql.fetch(using, _DEFINITIONS, {"schema": schema, "functions": replaced}):
        function = sql.qualified(schema, name)
        yield definition
        yield f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"
        yield f"COMMENT ON FUNCTION {function}() IS {sql.quote_literal(comment)}"
    made = [trigger for trigger in triggers if trigger.needs_ddl]
    for trigger in made:
        table = trigger.table.quoted
        yield f"DROP TRIGGER IF EXISTS {sql.quote_identifier(trigger.name)} ON {table}"
    before = [(t.table.oid, t.name) for t in made] + [(s.table.oid, s.name) for s in plan.stray_triggers]
    places = {"tables": [oid for oid, _ in before], "names": [name for _, name in before]}
    there = {(relation.oid, trigger.name) for relation in catalog.relations for trigger in relation.triggers}
    for oid, name, definition in sql.fetch(using, _TRIGGERS, places):
        if (oid, name) in there:
            yield definition
    for name in sorted(plan.outdated_functions - set(catalog.functions)):
        yield install.drop_function(catalog.ledger, name)


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
