"""Names are compared as they are written, whatever collation a column has: one that ignores case names two files."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from tests.support import recorded_names, run_sql

pytestmark = pytest.mark.django_db

# Ignores case, and all punctuation.
CASELESS = "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2-ka-shifted', deterministic = false)"


def collate(**collations: str) -> None:
    """Give columns of a table, which have been recorded before, these collations."""
    run_sql("INSERT INTO project_document (title, file, thumb) VALUES ('', 'a', 'b')")
    run_sql("UPDATE project_document SET file = 'c', thumb = 'd'; DELETE FROM project_document")
    run_sql("DELETE FROM pending_file_deletion")
    connection.check_constraints()
    for column, collation in collations.items():
        run_sql(f'ALTER TABLE project_document ALTER {column} TYPE varchar(100) COLLATE "{collation}"')


@pytest.fixture
def caseless() -> str:
    try:
        with transaction.atomic():
            run_sql(CASELESS)
    except DatabaseError as error:
        pytest.skip(f"this server has no ICU: {error}")
    return "caseless"


def insert(file: str, thumb: str = "") -> None:
    run_sql(f"INSERT INTO project_document (title, file, thumb) VALUES ('', '{file}', '{thumb}')")
    connection.check_constraints()


def test_change_of_case_alone_is_recorded_where_a_column_ignores_case(caseless: str) -> None:
    collate(file=caseless)
    insert("A.png", "B.png")
    run_sql("UPDATE project_document SET file = 'a.png'")
    assert recorded_names() == ["A.png"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE project_document SET file = 'x'",
        "DELETE FROM project_document",
        "TRUNCATE project_document CASCADE",
    ],
)
def test_name_that_a_collation_takes_for_nothing_is_recorded(caseless: str, statement: str) -> None:
    collate(file=caseless)
    insert("---")
    run_sql(statement)
    assert recorded_names() == ["---"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE project_document SET file = 'x', thumb = 'y'",
        "DELETE FROM project_document",
        "TRUNCATE project_document CASCADE",
    ],
)
def test_columns_of_two_collations_are_recorded(statement: str) -> None:
    collate(file="C", thumb="POSIX")
    insert("a.png", "b.png")
    run_sql(statement)
    assert recorded_names() == ["a.png", "b.png"]


def test_columns_of_two_collations_are_recorded_where_one_was_renamed_a_moment_ago() -> None:
    collate(file="C", thumb="POSIX")
    insert("a.png", "b.png")
    run_sql("ALTER TABLE project_document RENAME thumb TO preview")
    run_sql("DELETE FROM project_document")
    assert recorded_names() == ["a.png", "b.png"]
