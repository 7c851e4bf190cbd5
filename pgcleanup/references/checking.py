"""Which of these names does anything still need? One statement, in one snapshot."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import OperationalError, transaction
from psycopg.errors import LockNotAvailable

from pgcleanup import sql
from pgcleanup.columns import FileColumns
from pgcleanup.ledger.fence import OPEN_TRANSACTIONS, drain_transaction, fence_parameters, lock_patience
from pgcleanup.references.places import TABLES, places, rendered

# The check holds a lock on each table while it waits for the next. Well below deadlock_timeout: a migration that has
# locked one table and then wants another would wait for us as we wait for it, and PostgreSQL would end it. A policy
# that would hide rows raises an error instead.
#
# Lists that do not fit into work_mem are not hashed but searched from end to end for each row: names that were let go
# a hundred times each, while a transaction held all of them up, took hours that way.
_FOR_THE_CHECK = """
SELECT set_config('lock_timeout', least(500, setting::int4 / 2)::text, true), set_config('row_security', 'off', true),
       set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, %(list_kb)s)::text, true)
  FROM pg_catalog.pg_settings
 WHERE name = 'deadlock_timeout'
"""
# More than the planner reckons with for an element of a list.
_LIST_BYTES = 128
_SECONDS_BETWEEN_CHECKS = 0.1

# The names once, however many columns there are. = ANY (SELECT ...), never = ANY (an array): as a generic plan
# that one searches the array row by row.
_ASKED = "WITH asked AS MATERIALIZED (SELECT pg_catalog.unnest(%(names)s::text[]) AS name)"
# The answer is the value that was compared: of a char(n) that is the name, and concat() gives the name with blanks.
_NAMED = """
SELECT 'row', {source}, {compared}::text FROM {table}
 WHERE {compared} OPERATOR(pg_catalog.=) ANY (SELECT name FROM asked)
"""
# A char(n) names the file with the blanks as well: so Django reads it, and so a trigger records it.
_NAMED_PADDED = """
SELECT 'row', {source}, pg_catalog.concat({column}) FROM {table}
 WHERE pg_catalog.concat({column}) OPERATOR(pg_catalog.=) ANY (SELECT name FROM asked)
"""

# What the database knows of its columns, in the same snapshot as the check.
_KNOWN = "SELECT 'column', source, storage_key FROM file_deletion_column"
# Most projects have each app's tables in one database only. A note of a column without a table is no row of anybody's.
_KNOWN_ELSEWHERE = f"{_KNOWN} WHERE table_name IS NOT NULL OR (attnum IS NULL AND source = ANY (%(with_table)s))"
_HAS = """
SELECT to_regclass('pending_file_deletion') IS NOT NULL, to_regclass('file_deletion_column') IS NOT NULL,
       to_regclass('django_migrations') IS NOT NULL
"""

# A column that the last `migrate` found, and that is no more where this process looks: it was dropped, or its table
# or column was renamed or moved, or the search_path hides it. Its rows would not be asked, although the labels agree.
# An attribute number of 0 says that a migration has dropped it.
_MOVED = """
SELECT 'moved', k.source,
       CASE WHEN a.attnum IS NULL THEN 'gone' ELSE pg_catalog.concat(k.table_name, '.', a.attname) END
  FROM file_deletion_column k
  JOIN unnest(%(looked_sources)s::text[], %(looked_tables)s::text[], %(looked_columns)s::text[])
       AS w(source, quoted, attname) ON w.source = k.source
  LEFT JOIN pg_catalog.pg_attribute a
         ON a.attrelid = k.table_name::oid AND a.attnum = k.attnum AND NOT a.attisdropped
 WHERE k.attnum IS NOT NULL
   AND (a.attnum IS NULL OR w.attname <> a.attname
        OR pg_catalog.to_regclass(w.quoted)::oid IS DISTINCT FROM k.table_name::oid)
"""

# Entries of these names that this drain did not claim, of the same storage or of a source that nobody can
# resolve any more. Without them, a name that a transaction carried from one row to another although it
# began after the stamp would be missed. An unresolvable source's entry is nobody's to claim, so it is in
# the way only until it is stamped, past grace and clear.
#
# LATERAL with OFFSET 0 and ORDER BY id hold the planner to the two indexes, one look-up for each name and a
# walk along the unstamped entries: while the table's statistics are from before the stamp, it would read
# the whole ledger for every batch.
#
# NOT IN, whose list is hashed once. Of NOT EXISTS the planner makes a join, and by such statistics it would do it
# anew for each name: 4,000 names times 4,000 claimed entries.
_ENTRIES = f"""
SELECT 'entry', p.source, p.name
  FROM asked a
 CROSS JOIN LATERAL (
    SELECT p.id, p.source, p.name, p.stamp_id
      FROM pending_file_deletion p
     WHERE pg_catalog.hashtextextended(p.name, 0) = pg_catalog.hashtextextended(a.name, 0) AND p.name = a.name
       AND p.stamp_id IS NOT NULL
    OFFSET 0) p
  LEFT JOIN file_deletion_stamp s ON s.id = p.stamp_id
 WHERE p.id NOT IN (SELECT pg_catalog.unnest(%(claimed)s::bigint[]))
   AND (p.source = ANY (%(blocking)s)
        OR (p.source <> ALL (%(other_storages)s)
            AND (s.id IS NULL OR s.stamped_at > clock_timestamp() - %(grace)s
                 OR s.fence && ARRAY({OPEN_TRANSACTIONS}))))
UNION ALL
SELECT 'entry', p.source, p.name
  FROM (SELECT id, source, name FROM pending_file_deletion WHERE stamp_id IS NULL ORDER BY id OFFSET 0) p
 WHERE p.name IN (SELECT name FROM asked)
   -- A forecast claims these, too.
   AND p.id NOT IN (SELECT pg_catalog.unnest(%(claimed)s::bigint[]))
   AND p.source <> ALL (%(other_storages)s)
"""  # noqa: S608 -- only constants


@dataclass(slots=True)
class Answer:
    """What one check found."""

    references: dict[str, str] = field(default_factory=dict)
    """Name → source of a row that still names it."""
    entries: dict[str, str] = field(default_factory=dict)
    """Name → source of an entry that is in the way."""
    known: set[tuple[str, str | None]] = field(default_factory=set)
    """Source and storage key of every column that the database knows of."""
    moved: dict[str, str] = field(default_factory=dict)
    """Source → where the database has a column that this process looks for elsewhere."""
    asked: dict[str, bool] = field(default_factory=dict)
    """Source, of a table that is there → whether it has the column, and so was asked."""
    differences: dict[str, list[str]] = field(default_factory=dict)
    """Alias of another database → what it and this process see differently."""

    def add(self, other: Answer, alias: str | None = None) -> None:
        """Take over what another database answered; with its alias, to tell people where."""
        where = f" ({alias})" if alias else ""
        self.references.update({name: source + where for name, source in other.references.items()})
        self.entries.update({name: source + where for name, source in other.entries.items()})
        self.differences.update(other.differences)


def check(
    using: str,
    columns: FileColumns,
    key: str,
    names: Sequence[str],
    claimed: Sequence[int] | None,
    grace: timedelta,
    *,
    without: Collection[str] = (),
    again: bool = False,
) -> Answer:
    """Ask this drain's own database about names of the storage `key`, of which `claimed` entries are ours.

    With None for `claimed`, as in a forecast, no entry is in the way. The rows of the sources in `without` are not
    asked. `again`, in the transaction of a check, asks nothing anew of what the database knows of its columns: for a
    few names that takes longer than the rows.

    One statement: with one for the rows and another for the entries, a name could pass from one to the
    other in between. It runs in a savepoint that is rolled back at once, which lets go of the locks on the
    users' tables before any storage is called, and keeps the claim. `row_security = off` makes PostgreSQL
    raise an error where a policy would hide rows from us, instead of hiding them.
    """
    sources = {column.source: column.storage_key for column in columns.stored}
    parameters = {
        "names": sql.text_array(names),
        "claimed": sql.integer_array(claimed or ()),
        "list_kb": _list_kb(names, claimed or ()),
        "blocking": [source for source, place in sources.items() if place == key],
        "other_storages": [source for source, place in sources.items() if place != key],
        "grace": grace,
        **_looked(columns),
    }
    branches = [*([] if again else [_KNOWN, _MOVED]), *([] if claimed is None else [_ENTRIES])]
    asked = FileColumns(column for column in columns.naming(key) if column.source not in without)
    return _ask(using, branches, asked, parameters)


def check_elsewhere(using: str, columns: FileColumns, key: str, names: Sequence[str], grace: timedelta) -> Answer:
    """Ask another database of the project about names of the storage `key`, each with its own ledger.

    Read before the own database. An entry there is in the way until it is stamped, past grace and clear.

    What that database knows of its columns is asked with it: `known` has those whose table is there, and `moved` those
    that were not asked although they should. Where it has no column table, what this process knows must do.
    """
    parameters = {
        "names": sql.text_array(names),
        "claimed": sql.integer_array(()),
        "list_kb": _list_kb(names),
        "blocking": [],
        "other_storages": [column.source for column in columns.stored if column.storage_key != key],
        "grace": grace,
        **_looked(columns),
    }
    has_ledger, has_columns, is_migrated = sql.fetch(using, _HAS)[0]
    branches = [*([_KNOWN_ELSEWHERE, _MOVED] if has_columns else []), *([_ENTRIES] if has_ledger else [])]
    naming = columns.naming(key)
    with drain_transaction(using):
        answer = _ask(using, branches, naming, parameters)
    if not (has_columns or is_migrated):
        # Nobody brings a table of ours there in step, such as one of an older system: a column that it lacks is none.
        answer.asked = {source: True for source, is_there in answer.asked.items() if is_there}
    if not has_columns:
        answer.known = {(column.source, column.storage_key) for column in naming if column.source in answer.asked}
    expected = {source for source, _ in answer.known}
    for column in naming:
        if column.source in expected and not answer.asked.get(column.source):
            answer.moved.setdefault(column.source, "missing")
    return answer


def _looked(columns: FileColumns) -> dict[str, list[str]]:
    """Return what `_MOVED` takes."""
    looked = [column for column in columns if not column.dropped]
    return {
        "looked_sources": [column.source for column in looked],
        "looked_tables": [column.table for column in looked],
        "looked_columns": [column.column for column in looked],
    }


def _list_kb(*lists: Sequence[Any]) -> int:
    return 1024 + sum(map(len, lists)) * _LIST_BYTES // 1024


def _ask(using: str, branches: list[str], columns: FileColumns, parameters: dict[str, Any]) -> Answer:
    tables = sql.fetch(using, TABLES, places(columns))
    answer = Answer(asked={columns[index - 1].source: known_type is not None for index, *_, known_type, _ in tables})
    for index, *place in tables:
        if place[-2] is not None:
            named = [_NAMED, _NAMED_PADDED] if place[-1] else [_NAMED]
            branches = [*branches, *(rendered(branch, columns[index - 1], *place) for branch in named)]
    if not branches:
        return answer
    parameters = {**parameters, "with_table": list(answer.asked)}
    for kind, source, value in _rolled_back(using, f"{_ASKED}\n" + "\nUNION ALL\n".join(branches), parameters):
        if kind == "column":
            answer.known.add((source, value))
        elif kind == "moved":
            answer.moved[source] = value
        else:
            (answer.references if kind == "row" else answer.entries)[value] = source
    return answer


def _rolled_back(using: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows, and let go of all locks on users' tables. One that is locked is waited for in short turns."""
    end = time.monotonic() + lock_patience()
    while True:
        try:
            with transaction.atomic(using=using):
                sql.execute(using, _FOR_THE_CHECK, parameters)
                rows = sql.fetch(using, statement, {**parameters, **fence_parameters()})
                transaction.set_rollback(True, using=using)
            return rows
        except OperationalError as error:
            # Nobody waits for us meanwhile: the savepoint is gone, and its locks with it.
            if not isinstance(error.__cause__, LockNotAvailable) or time.monotonic() >= end:
                raise
            time.sleep(_SECONDS_BETWEEN_CHECKS)
