"""Whatever SQL calls it, and whoever sends it: a name that a row lets go is recorded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.models import Attachment, Document, NamedFile
from tests.support import ledger, recorded, recorded_names, run_sql, server_version, session, url_of

FILE = "project.document.file"
THUMB = "project.document.thumb"


@pytest.fixture
def documents(db: None) -> list[Document]:
    """Make rows 1 and 2, which name a.txt and b.txt."""
    return Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="b.txt")])


def test_update_is_recorded(documents: list[Document]) -> None:
    run_sql("UPDATE project_document SET file = 'c.txt' WHERE id = 1")

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_update_from_another_table_is_recorded(documents: list[Document]) -> None:
    run_sql("UPDATE project_document d SET file = v.file FROM (VALUES (1, 'c.txt')) AS v(id, file) WHERE v.id = d.id")

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_update_of_the_primary_key_together_with_the_name_is_recorded_under_the_old_key(
    documents: list[Document],
) -> None:
    run_sql("UPDATE project_document SET id = 9, file = 'c.txt' WHERE id = 1")

    assert [(entry.name, entry.object_pk) for entry in ledger()] == [("a.txt", "1")]


def test_swap_of_two_names_is_recorded_for_both_rows(documents: list[Document]) -> None:
    run_sql("UPDATE project_document SET file = CASE file WHEN 'a.txt' THEN 'b.txt' ELSE 'a.txt' END")

    assert recorded_names() == ["a.txt", "b.txt"]


def test_update_of_one_of_two_columns_records_that_one_alone(db: None) -> None:
    Document.objects.create(file="a.txt", thumb="a.png")

    run_sql("UPDATE project_document SET thumb = NULL")

    assert recorded() == [(THUMB, "a.png", "UPDATE")]


def test_delete_using_another_table_is_recorded(documents: list[Document]) -> None:
    run_sql("DELETE FROM project_document d USING (VALUES (2)) AS v(id) WHERE v.id = d.id")

    assert recorded() == [(FILE, "b.txt", "DELETE")]


def test_delete_of_no_row_records_nothing(documents: list[Document]) -> None:
    run_sql("DELETE FROM project_document WHERE id = 3")

    assert ledger() == []


def test_upsert_records_the_name_it_replaces(documents: list[Document]) -> None:
    run_sql(
        "INSERT INTO project_document (id, title, file) VALUES (1, '', 'c.txt'), (3, '', 'd.txt')"
        " ON CONFLICT (id) DO UPDATE SET file = excluded.file"
    )

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_upsert_that_does_nothing_records_nothing(documents: list[Document]) -> None:
    run_sql("INSERT INTO project_document (id, title, file) VALUES (1, '', 'c.txt') ON CONFLICT DO NOTHING")

    assert ledger() == []


def test_writable_cte_is_recorded(documents: list[Document]) -> None:
    run_sql(
        "WITH gone AS (DELETE FROM project_document WHERE id = 1 RETURNING file)"
        " UPDATE project_document SET file = gone.file FROM gone WHERE id = 2"
    )

    assert recorded() == [(FILE, "a.txt", "DELETE"), (FILE, "b.txt", "UPDATE")]


def test_merge_is_recorded(documents: list[Document]) -> None:
    if server_version() < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")

    run_sql(
        "MERGE INTO project_document d USING (VALUES (1, 'c.txt'), (2, ''), (3, 'd.txt')) AS v(id, file) ON v.id = d.id"
        " WHEN MATCHED AND v.file = '' THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET file = v.file"
        " WHEN NOT MATCHED THEN INSERT (id, title, file) VALUES (v.id, '', v.file)"
    )

    assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]


def test_write_through_an_updatable_view_is_recorded(documents: list[Document]) -> None:
    run_sql("CREATE VIEW paper AS SELECT id, file FROM project_document")

    run_sql("UPDATE paper SET file = 'c.txt' WHERE id = 1; DELETE FROM paper WHERE id = 2")

    assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]


def test_name_changed_by_another_trigger_is_recorded(documents: list[Document]) -> None:
    run_sql(
        "CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.file := 'renamed.txt'; RETURN NEW; END $$;"
        "CREATE TRIGGER rename BEFORE UPDATE ON project_document FOR EACH ROW EXECUTE FUNCTION rename()"
    )

    run_sql("UPDATE project_document SET title = 'other' WHERE id = 1")

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_truncate_records_every_name(documents: list[Document]) -> None:
    run_sql("SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE project_document CASCADE")

    assert recorded() == [(FILE, "a.txt", "TRUNCATE"), (FILE, "b.txt", "TRUNCATE")]


def test_truncate_records_the_names_of_tables_that_it_cascades_to(documents: list[Document]) -> None:
    Attachment.objects.create(document_id=1, file="goes-too.txt")

    run_sql("SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE project_document CASCADE")

    assert recorded_names() == ["a.txt", "b.txt", "goes-too.txt"]


def test_cascade_of_the_database_is_recorded(documents: list[Document]) -> None:
    run_sql("ALTER TABLE project_attachment ADD COLUMN parent bigint REFERENCES project_document ON DELETE CASCADE")
    run_sql("INSERT INTO project_attachment (parent, file) VALUES (1, 'goes-too.txt'), (2, 'stays.txt')")

    run_sql("DELETE FROM project_document WHERE id = 1")

    assert recorded_names() == ["a.txt", "goes-too.txt"]


def test_cascade_of_the_database_to_no_row_records_nothing_there(documents: list[Document]) -> None:
    run_sql("ALTER TABLE project_attachment ADD COLUMN parent bigint REFERENCES project_document ON DELETE CASCADE")

    run_sql("DELETE FROM project_document WHERE id = 1")

    assert recorded_names() == ["a.txt"]


@pytest.mark.parametrize(
    ("action", "statement"),
    [
        ("ON DELETE SET NULL", "DELETE FROM project_namedfile"),
        ("ON UPDATE CASCADE", "UPDATE project_namedfile SET name = 'new.png'"),
    ],
)
def test_file_column_that_a_foreign_key_changes_is_recorded(db: None, action: str, statement: str) -> None:
    NamedFile.objects.create(name="old.png")
    Document.objects.create(thumb="old.png")
    run_sql("SET CONSTRAINTS ALL IMMEDIATE")
    run_sql(f"ALTER TABLE project_document ADD FOREIGN KEY (thumb) REFERENCES project_namedfile {action}")

    run_sql(statement)

    assert (THUMB, "old.png", "UPDATE") in recorded()


@pytest.mark.parametrize("statement", ["INSERT INTO project_document (title, file) VALUES ('', 'new.txt')"])
def test_insert_records_nothing(db: None, statement: str) -> None:
    run_sql(statement)

    assert ledger() == []


def test_copy_records_nothing(db: None) -> None:
    from django.db import connection

    with connection.cursor() as cursor, cursor.copy("COPY project_document (title, file) FROM STDIN") as copy:
        copy.write_row(("", "new.txt"))

    assert ledger() == []


@pytest.mark.parametrize("old", ["''", "NULL"], ids=["empty", "NULL"])
@pytest.mark.parametrize("statement", ["UPDATE project_document SET thumb = 'new.png'", "DELETE FROM project_document"])
def test_name_that_is_no_name_records_nothing(db: None, old: str, statement: str) -> None:
    run_sql(f"INSERT INTO project_document (title, file, thumb) VALUES ('', '', {old})")

    run_sql(statement)

    assert ledger() == []


@pytest.mark.django_db(transaction=True)
def test_another_program_is_recorded(tmp_path: Path) -> None:
    Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="b.txt")])
    script = "UPDATE project_document SET file = 'c.txt' WHERE id = 1; DELETE FROM project_document WHERE id = 2;"

    if psql := shutil.which("psql"):
        subprocess.run([psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", script, url_of()], check=True)
    else:
        with session(application_name="psql") as other:
            other.execute(script)

    assert [(e.name, e.operation, e.application_name) for e in ledger()] == [
        ("a.txt", "UPDATE", "psql"),
        ("b.txt", "DELETE", "psql"),
    ]
