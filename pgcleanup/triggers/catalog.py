"""What the database has: its ledger, the tables of the file columns, and the triggers and functions of ours.

Two catalog queries that take no lock on a user's table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pgcleanup import sql
from pgcleanup.columns import FileColumn
from pgcleanup.triggers.render import LEDGER, PREFIX

COLUMN_TABLE = "file_deletion_column"

# Names of tables are resolved as the session's search_path resolves them for the application; those of the catalog
# are not, since a schema of somebody else's may come before pg_catalog. The column table stands beside
# the ledger: with a schema for each tenant, one further on in the path is another ledger's.
_LEDGER_STATE = """
SELECT n.nspname, EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.relnamespace = n.oid AND t.relname = %(columns)s),
       pg_catalog.current_setting('server_version_num')::int, pg_catalog.quote_ident(current_user),
       c.relowner::regrole::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = pg_catalog.to_regclass(%(ledger)s)
"""

# One row for each table that a column of ours names, for its partitions and inheritance children, and for
# any other table that still has a trigger of ours.
_RELATIONS = r"""
WITH RECURSIVE wanted AS (
    SELECT t.quoted, pg_catalog.to_regclass(t.quoted)::oid AS oid
      FROM pg_catalog.unnest(%(tables)s::text[]) AS t(quoted)
     WHERE pg_catalog.to_regclass(t.quoted) IS NOT NULL
), family(oid, root) AS (
    SELECT oid, oid FROM wanted
    UNION
    SELECT i.inhrelid, f.root FROM family f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid
), own AS MATERIALIZED (
    SELECT p.oid, p.proname
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = %(schema)s)
       AND p.proname LIKE 'pgcleanup\_%%' AND p.prorettype = 'pg_catalog.trigger'::regtype
), placed AS MATERIALIZED (
    SELECT g.tgrelid, pg_catalog.json_agg(pg_catalog.json_build_array(
               g.tgname, g.tgenabled, g.tgtype, own.proname, g.tgparentid <> 0)) AS triggers
      FROM pg_catalog.pg_trigger g JOIN own ON own.oid = g.tgfoid
     GROUP BY g.tgrelid
)
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relispartition,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS has_parent,
       c.relowner::regrole::text,
       (SELECT pg_catalog.array_agg(w.quoted) FROM wanted w WHERE w.oid = c.oid) AS quoted,
       (SELECT pg_catalog.array_agg(f.root::bigint) FROM family f WHERE f.oid = c.oid AND f.root <> c.oid) AS roots,
       (SELECT pg_catalog.json_object_agg(a.attname, pg_catalog.json_build_array(a.attnum, a.atttypid::bigint))
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attname = ANY(%(columns)s::name[])) AS attributes,
       coalesce(placed.triggers, '[]') AS triggers
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN placed ON placed.tgrelid = c.oid
 WHERE c.oid IN (SELECT oid FROM family UNION SELECT tgrelid FROM placed)
 ORDER BY n.nspname, c.relname
"""

_FUNCTIONS = r"""
SELECT p.proname, pg_catalog.md5(p.prosrc), coalesce(d.description, ''), p.prosecdef,
       pg_catalog.array_to_string(p.proconfig, E'\n'),
       (SELECT pg_catalog.array_agg(x.grantee::regrole::text)
          FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) x
         WHERE x.grantee <> p.proowner),
       p.proowner::regrole::text,
       coalesce(pg_catalog.has_table_privilege(p.proowner, pg_catalog.to_regclass(%(ledger)s), 'INSERT'), false)
  FROM pg_catalog.pg_proc p
  LEFT JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_proc'::regclass
 WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = %(schema)s)
   AND p.proname LIKE 'pgcleanup\_%%' AND p.prorettype = 'pg_catalog.trigger'::regtype
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the ledger of a database is, and who we are there. Roles are quoted, ready for SQL."""

    schema: str
    has_column_table: bool
    server_version: int
    user: str
    owner: str


class InstalledTrigger(NamedTuple):
    """A trigger of ours as the catalog has it."""

    name: str
    enabled: str
    type: int
    function: str
    cloned: bool

    @property
    def fires(self) -> bool:
        return self.enabled in "OA"


class InstalledFunction(NamedTuple):
    """A function of ours as the catalog has it."""

    name: str
    body_md5: str
    comment: str
    security_definer: bool
    config: str | None
    """Its SET clauses, a line each; None without one."""
    grantees: frozenset[str]
    """Who may execute it besides its owner; "-" is everybody."""
    owner: str
    owner_may_record: bool
    """Whether its owner, as whom it runs, may write the ledger."""


class Relation(NamedTuple):
    """A table with what matters of it."""

    oid: int
    schema: str
    name: str
    kind: str
    is_partition: bool
    has_children: bool
    has_parent: bool
    owner: str
    quoted: tuple[str, ...]
    roots: tuple[int, ...]
    attributes: Mapping[str, Sequence[int]]
    """Column name → attribute number, type oid; only columns that some file column or primary key is named after."""
    triggers: tuple[InstalledTrigger, ...]


@dataclass(frozen=True)
class Catalog:
    """Everything of the above, as one moment had it."""

    ledger: Ledger
    relations: tuple[Relation, ...]
    functions: Mapping[str, InstalledFunction] = field(default_factory=dict)

    @cached_property
    def by_oid(self) -> dict[int, Relation]:
        """The tables by their oid."""
        return {relation.oid: relation for relation in self.relations}

    @cached_property
    def by_quoted_name(self) -> dict[str, Relation]:
        """The tables by the quoted names that lead to them."""
        return {quoted: relation for relation in self.relations for quoted in relation.quoted}


def read_ledger(using: str) -> Ledger | None:
    """Return where the ledger of this database is, or None if it has none (or is not PostgreSQL)."""
    rows = sql.fetch(using, _LEDGER_STATE, {"ledger": LEDGER, "columns": COLUMN_TABLE})
    return Ledger(*rows[0]) if rows else None


def read_catalog(using: str, ledger: Ledger, columns: Sequence[FileColumn]) -> Catalog:
    """Read what is installed for these columns, and what of ours is installed elsewhere."""
    names = {column.column for column in columns} | {part for column in columns for part in column.primary_key}
    parameters = {
        "tables": sql.text_array(sorted({column.table for column in columns})),
        "columns": sql.text_array(sorted(names)),
        "schema": ledger.schema,
    }
    relations = [_relation(row) for row in sql.fetch(using, _RELATIONS, parameters)]
    placed = {"schema": ledger.schema, "ledger": sql.qualified(ledger.schema, LEDGER)}
    functions = [_function(row) for row in sql.fetch(using, _FUNCTIONS, placed)]
    return Catalog(ledger, tuple(relations), {function.name: function for function in functions})


def _relation(row: tuple[Any, ...]) -> Relation:
    *plain, quoted, roots, attributes, triggers = row
    ours = [InstalledTrigger(*trigger) for trigger in _decoded(triggers) if trigger[0].startswith(PREFIX)]
    return Relation._make((*plain, tuple(quoted or ()), tuple(roots or ()), _decoded(attributes) or {}, tuple(ours)))


def _function(row: tuple[Any, ...]) -> InstalledFunction:
    name, body_md5, comment, security_definer, config, grantees, *owner = row
    return InstalledFunction(name, body_md5, comment, security_definer, config, frozenset(grantees or ()), *owner)


def _decoded(value: Any) -> Any:
    """Return JSON as Python values: Django leaves it as text where it set the connection up that way."""
    return json.loads(value) if isinstance(value, str) else value
