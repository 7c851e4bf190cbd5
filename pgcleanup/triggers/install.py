"""Carry a plan out: DDL only for differences, one short transaction for each table, never a session lock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeVar

from django.db import DatabaseError, connections

from pgcleanup import sql
from pgcleanup.conf import settings
from pgcleanup.triggers import render
from pgcleanup.triggers.catalog import Catalog, Ledger, Relation
from pgcleanup.triggers.plan import Function, Plan, Stray, Trigger

_ATTEMPTS = 3
_BUSY = ("55P03", "40P01")  # lock_not_available, deadlock_detected

# What was granted to others by default privileges when a function was created, or by somebody since.
_CLOSE = """
DECLARE
    _role text;
BEGIN
    FOR _role IN SELECT x.grantee::regrole::text
                   FROM pg_catalog.pg_proc p CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) x
                  WHERE p.oid = {function}::regprocedure AND x.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', {function}::regprocedure, _role);
    END LOOP;
END
"""

_ENABLED = {"A": "ENABLE ALWAYS", "D": "DISABLE", "R": "ENABLE REPLICA"}

# Two processes that replace one function at a time fail with "tuple concurrently updated".
LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgcleanup'))"

Failure = tuple[str, str]
T = TypeVar("T")


def install(using: str, plan: Plan, catalog: Catalog) -> tuple[list[str], list[Failure]]:
    """Install what the plan lacks, then drop what it does not need.

    In this order: where a table became a partition, its root's trigger stands before its own goes.

    Returns:
        What was changed, and what could not be: the table and why. Each table is committed by itself.
    """
    changed: list[str] = []
    failed: list[Failure] = []
    outdated = set(plan.outdated_functions)
    for label, group in groupby(plan.triggers, key=lambda trigger: trigger.table.label):
        triggers = list(group)
        statements = list(table_statements(triggers, outdated, catalog))
        if _attempt(using, label, statements, changed, failed):
            outdated -= {trigger.function.name for trigger in triggers}  # partitions share their root's
    incomplete = {label for label, _ in failed}
    for stray in plan.stray_triggers:
        # Where the trigger that takes its place could not be made, this one is all that records.
        if incomplete.isdisjoint(_family(stray.table, catalog)):
            _attempt(using, _label(stray.table), [drop_trigger(stray)], changed, failed)
    if plan.stray_functions and not failed:
        drops = [drop_function(catalog.ledger, name) for name in plan.stray_functions]
        _attempt(using, "functions", drops, changed, failed)
    return changed, failed


def idle_functions(using: str, ledger: Ledger, names: Iterable[str]) -> None:
    """Replace functions by ones that do nothing. Takes no lock on a table."""
    with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
        sql.execute(using, LOCK)
        for name in names:
            sql.execute(using, render.render_idle_function(sql.qualified(ledger.schema, name)))


def table_statements(triggers: list[Trigger], outdated: set[str], catalog: Catalog) -> Iterable[str]:
    """Yield what makes these triggers of one table, and those of their functions that are outdated."""
    for function in {trigger.function.name: trigger.function for trigger in triggers}.values():
        if function.name in outdated:
            yield from function_statements(function, catalog)
    for trigger in triggers:
        # Not for an outdated function alone: replacing a trigger needs a lock on the table, and would
        # enable one that somebody disabled.
        if trigger.needs_ddl:
            yield from trigger_statements(trigger, catalog)


def trigger_statements(trigger: Trigger, catalog: Catalog) -> Iterable[str]:
    """Yield what makes a trigger anew, in the state that somebody gave it."""
    function = sql.qualified(catalog.ledger.schema, trigger.function.name)
    yield render.render_trigger(trigger.kind, trigger.table, function)
    if trigger.enabled in _ENABLED:
        # CREATE OR REPLACE TRIGGER has just set it to the ordinary state.
        how, name = _ENABLED[trigger.enabled], sql.quote_identifier(trigger.name)
        yield f"ALTER TABLE {trigger.table.quoted} {how} TRIGGER {name}"


def function_statements(
    function: Function, catalog: Catalog, of_role: Callable[[str, str], str] = lambda statement, role: statement
) -> Iterable[str]:
    """Yield what makes a function; `of_role` may change a statement that names a role (quoted)."""
    name = sql.qualified(catalog.ledger.schema, function.name)
    text = function.sql
    yield text
    installed = catalog.functions.get(function.name)
    if installed and not installed.owner_may_record:
        yield of_role(f"ALTER FUNCTION {name}() OWNER TO {catalog.ledger.owner}", catalog.ledger.owner)
    # In the transaction that creates it: a trigger that another role attached before would keep firing.
    yield f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
    yield "DO " + sql.quote_literal(_CLOSE.format(function=sql.quote_literal(f"{name}()")))
    for role in sorted(function.grant_to):
        yield of_role(f"GRANT EXECUTE ON FUNCTION {name}() TO {role}", role)
    yield f"COMMENT ON FUNCTION {name}() IS {sql.quote_literal(function.comment(render.body_md5(text)))}"


def _family(relation: Relation, catalog: Catalog) -> set[str]:
    """Return the labels of a table and of those that it is a partition or child of."""
    return {_label(relation), *(_label(catalog.by_oid[oid]) for oid in relation.roots)}


def _label(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"


def drop_trigger(stray: Stray) -> str:
    """Return what drops a trigger that nothing needs."""
    table = sql.qualified(stray.table.schema, stray.table.name)
    return f"DROP TRIGGER IF EXISTS {sql.quote_identifier(stray.name)} ON {table}"


def drop_function(ledger: Ledger, name: str) -> str:
    """Return what drops a function that no trigger needs."""
    return f"DROP FUNCTION IF EXISTS {sql.qualified(ledger.schema, name)}()"


def _attempt(using: str, label: str, statements: list[str], changed: list[str], failed: list[Failure]) -> bool:
    if not statements:
        return True
    try:
        with_retries(using, lambda: _run(using, statements))
    except DatabaseError as error:
        failed.append((label, str(error).splitlines()[0]))
        return False
    changed.append(label)
    return True


def with_retries(using: str, work: Callable[[], T]) -> T:
    """Do the work again where a table was busy, unless we are inside somebody's transaction."""
    attempts = 1 if connections[using].in_atomic_block else _ATTEMPTS
    for attempt in range(1, attempts):
        try:
            return work()
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) not in _BUSY:
                raise
            time.sleep(random.uniform(0.1, 0.3) * attempt)  # noqa: S311 -- spreads two migrates apart
    return work()


def _run(using: str, statements: list[str]) -> None:
    with sql.short_transaction(using, lock_timeout=sql.milliseconds(settings.lock_timeout.total_seconds())):
        sql.execute(using, LOCK)
        for statement in statements:
            sql.execute(using, statement)
