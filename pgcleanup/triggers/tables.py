"""Which tables need record triggers, and in what form: file columns and the catalog in, tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pgcleanup.columns import FileColumn
from pgcleanup.triggers.catalog import Catalog, Relation
from pgcleanup.triggers.render import Attribute, Form, Table


def tables_to_record(catalog: Catalog, columns: Iterable[FileColumn]) -> list[Table]:
    """Return the tables that need triggers: those of the columns, their partitions and inheritance children.

    Models can be ahead of the database or behind it: only columns that the table really has count.
    """
    named: dict[str, list[FileColumn]] = {}
    for column in columns:
        named.setdefault(column.table, []).append(column)
    own = {relation.oid: table for relation in catalog.relations if (table := _own_table(relation, named))}
    partitions = {r.oid for r in catalog.relations if r.is_partition and not own.keys().isdisjoint(r.roots)}
    tables = []
    for relation in catalog.relations:
        roots = [own[oid] for oid in relation.roots if oid in own]
        if relation.oid in partitions:
            root = next(table for table in roots if table.oid not in partitions)
            table = _partition(relation, root, own.get(relation.oid), catalog.by_oid[root.oid])
        elif roots:
            table = _inheriting(relation, roots, own.get(relation.oid))
        else:
            table = own.get(relation.oid)
        if table is not None:
            tables.append(table)
    return tables


def _own_table(relation: Relation, named: Mapping[str, list[FileColumn]]) -> Table | None:
    form = _form(relation)
    candidates = [column for quoted in relation.quoted for column in named.get(quoted, ())]
    # By name: two models can reach one table by two names, with its schema and without.
    mine = list({c.column: c for c in reversed(candidates) if c.column in relation.attributes}.values())[::-1]
    if form is None or not mine:
        return None
    return Table(
        oid=relation.oid,
        schema=relation.schema,
        name=relation.name,
        form=form,
        owner=relation.owner,
        file_columns=tuple(_attribute(relation, column.column, column.source) for column in mine),
        primary_key=tuple(
            _attribute(relation, name)
            for name in mine[0].primary_key
            if all(part in relation.attributes for part in mine[0].primary_key)
        ),
    )


def _inheriting(relation: Relation, parents: list[Table], own: Table | None) -> Table | None:
    """Return a child of PostgreSQL's INHERITS. A column that it has a model for counts with that one."""
    form = _form(relation)
    if form is None:
        return None
    sources = {
        column.name: column.source
        for table in (*reversed(parents), *([own] if own else []))
        for column in table.file_columns
        if column.name in relation.attributes
    }
    key = [part.name for part in (own or parents[0]).primary_key]
    return Table(
        oid=relation.oid,
        schema=relation.schema,
        name=relation.name,
        form=form,
        owner=relation.owner,
        file_columns=tuple(_attribute(relation, name, source) for name, source in sources.items()),
        primary_key=tuple(_attribute(relation, name) for name in key if set(key) <= relation.attributes.keys()),
    )


def _partition(relation: Relation, root: Table, own: Table | None, of_root: Relation) -> Table | None:
    """Return a partition: with functions of its own where a model of it has columns that the root's has not.

    All have the numbers that the columns have in the root, where the functions look for one that was renamed.
    """
    form = _form(relation)
    if form is None:
        return None
    if own and not {column.name for column in own.file_columns} <= {column.name for column in root.file_columns}:
        cloned = {column.name: column.source for column in root.file_columns}
        more = [column for column in own.file_columns if column.name not in cloned]
        return replace(
            own,
            file_columns=tuple(_attribute(of_root, column.name, column.source) for column in more),
            recorded_by_clone=root.file_columns,
            primary_key=tuple(_attribute(of_root, part.name) for part in own.primary_key),
        )
    return Table(
        oid=relation.oid,
        schema=relation.schema,
        name=relation.name,
        form=form,
        owner=relation.owner,
        file_columns=root.file_columns,
        primary_key=root.primary_key,
        has_clone=True,
        functions_of=(root.schema, root.name),
    )


def _form(relation: Relation) -> Form | None:
    """Return how to record a relation; None for a view, which has no rows of its own to lose."""
    match relation.kind:
        case "p":
            return Form.PARTITIONED
        case "f":
            return Form.FOREIGN
        case "r":
            related = relation.is_partition or relation.has_children or relation.has_parent
            return Form.BY_ROW if related else Form.PLAIN
    return None


def _attribute(relation: Relation, name: str, source: str = "") -> Attribute:
    number, type_oid = relation.attributes[name]
    return Attribute(name, number, type_oid, source)
