"""Every shape of file column is recorded, by each operation that can take a name away."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.db import connection

from tests.support import ledger, run_sql

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Shape:
    """A file column as SQL sees it. `before` makes the rows that its row needs."""

    source: str
    table: str
    column: str
    object_pk: str
    others: str = ""
    values: str = ""
    before: str = ""

    def insert(self, name: str) -> None:
        others, values = (self.others and f"{self.others}, "), (self.values and f"{self.values}, ")
        run_sql(f"{self.before} INSERT INTO {self.table} ({others}{self.column}) VALUES ({values}'{name}')")
        # Or PostgreSQL refuses a TRUNCATE in the same transaction: the foreign keys are still to be checked.
        connection.check_constraints()


SHAPES = {
    "an ordinary column": Shape("project.document.file", "project_document", "file", "7", "id, title", "7, ''"),
    "an ImageField, one of two columns": Shape(
        "project.document.thumb", "project_document", "thumb", "7", "id, title, file", "7, '', ''"
    ),
    "a column beside a foreign key": Shape("project.attachment.file", "project_attachment", "file", "7", "id", "7"),
    "an ImageField with dimensions": Shape("project.avatar.image", "project_avatar", "image", "7", "id", "7"),
    "a column with a database default": Shape("project.cover.back", "project_cover", "back", "7", "id, front", "7, ''"),
    "a column of a second storage": Shape("project.archive.file", "project_archive", "file", "7", "id", "7"),
    "names with quotes, blanks, capitals, a backslash and a dollar tag": Shape(
        "project.odd.file",
        '"Odd ""table"" name"',
        '"fi""le $pgcleanup$ \\ Name"',
        "7",
        '"The "" Key"',
        "7",
    ),
    "names with percent signs": Shape("project.percent.file", '"legacy 100%s"', '"file %s %% 100%"', "7", "id", "7"),
    "a column of an abstract base": Shape("project.invoice.scan", "project_invoice", "scan", "7", "id", "7"),
    "the parent's column in multi-table inheritance": Shape(
        "project.place.photo", "project_place", "photo", "7", "id", "7"
    ),
    "the child's column in multi-table inheritance": Shape(
        "project.restaurant.menu",
        "project_restaurant",
        "menu",
        "7",
        "place_ptr_id",
        "7",
        before="INSERT INTO project_place (id, photo) VALUES (7, '');",
    ),
    "a primary key": Shape("project.namedfile.name", "project_namedfile", "name", "old/it's.txt"),
    "a composite primary key, as a JSON array of strings": Shape(
        "project.page.scan", "project_page", "scan", '["a\\"b", "3"]', "book, number", "'a\"b', 3"
    ),
    "a third party's field class, on an unmanaged table": Shape(
        "project.manual.pdf", "legacy_manual", "pdf", "7", "id", "7"
    ),
    "an auto-created through table": Shape(
        "project.proof.file",
        "project_proof",
        "file",
        "7",
        "id, release_id, named_file_id",
        "7, 1, ''",
    ),
    "a third party's app": Shape("thirdparty.brochure.file", "thirdparty_brochure", "file", "7", "id", "7"),
}
OPERATIONS = {
    "UPDATE": "UPDATE {table} SET {column} = 'new.txt'",
    "DELETE": "DELETE FROM {table}",
    "TRUNCATE": "TRUNCATE {table} CASCADE",
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_name_is_recorded_from(shape: Shape, operation: str) -> None:
    shape.insert("old/it''s.txt")

    run_sql(OPERATIONS[operation].format(table=shape.table, column=shape.column))

    [entry] = ledger()
    assert (entry.source, entry.name, entry.object_pk, entry.operation) == (
        shape.source,
        "old/it's.txt",
        shape.object_pk,
        operation,
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_update_that_leaves_the_name_alone_records_nothing_from(shape: Shape) -> None:
    shape.insert("old.txt")

    run_sql(f"UPDATE {shape.table} SET {shape.column} = {shape.column}")

    assert ledger() == []
