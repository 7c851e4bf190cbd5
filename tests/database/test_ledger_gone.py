"""A database that lost its ledger, after a partial restore for example: writes go on, and people are told."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgcleanup.triggers import inspect, sync
from tests.support import Scratch, recorded

LET_GO = [
    "INSERT INTO project_document (title, file, thumb) VALUES ('', 'a.txt', 'a.png'), ('', 'b.txt', '')",
    "UPDATE project_document SET file = 'c.txt' WHERE file = 'a.txt'",
    "DELETE FROM project_document WHERE file = 'b.txt'",
    "TRUNCATE project_document CASCADE",
]


@pytest.fixture
def writer(scratch: Scratch) -> Iterator[psycopg.Connection]:
    """Open a session that has written, and been recorded, before."""
    with scratch.session() as other:
        for statement in LET_GO:
            other.execute(statement)
        other.execute("DELETE FROM pending_file_deletion")
        yield other


@pytest.mark.parametrize(
    "loss",
    [
        "DROP TABLE pending_file_deletion",
        "ALTER TABLE pending_file_deletion RENAME TO moved",
        "CREATE SCHEMA elsewhere; ALTER TABLE pending_file_deletion SET SCHEMA elsewhere",
    ],
    ids=["dropped", "renamed", "moved"],
)
def test_writes_of_a_session_go_on_with_a_warning_each_after_the_ledger_was(
    loss: str, scratch: Scratch, writer: psycopg.Connection
) -> None:
    said: list[str] = []
    writer.add_notice_handler(lambda notice: said.append(f"{notice.severity} {notice.message_primary}"))
    scratch.sql(loss)

    for statement in LET_GO:
        writer.execute(statement)

    assert writer.execute("SELECT count(*) FROM project_document").fetchone() == (0,)
    warnings = [line for line in said if line.startswith("WARNING pgcleanup: no ledger to write to")]
    # One for each of UPDATE, DELETE and TRUNCATE; the TRUNCATE reaches the attachments, too.
    assert len(warnings) == 4


def test_sync_leaves_a_database_without_ledger_alone(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    assert sync("scratch") is None
    assert inspect("scratch") is None


def test_migrate_says_that_the_ledger_is_gone(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    done = scratch.manage("migrate", "--skip-checks")

    assert 'pgcleanup: database "default" has lost its ledger' in done.stderr


def test_migrate_says_nothing_of_it_where_the_app_was_never_migrated(empty_scratch: Scratch) -> None:
    done = empty_scratch.manage("migrate", "thirdparty", "--skip-checks")

    assert done.stderr == ""


def test_names_are_recorded_again_once_the_ledger_is_back(scratch: Scratch, writer: psycopg.Connection) -> None:
    scratch.sql("ALTER TABLE pending_file_deletion RENAME TO moved")
    writer.execute(LET_GO[0])
    scratch.sql("ALTER TABLE moved RENAME TO pending_file_deletion")

    for statement in LET_GO[1:]:
        writer.execute(statement)

    assert recorded("scratch") == [
        ("project.document.file", "a.txt", "UPDATE"),
        ("project.document.file", "b.txt", "DELETE"),
        ("project.document.file", "c.txt", "TRUNCATE"),
        ("project.document.thumb", "a.png", "TRUNCATE"),
    ]


def test_names_are_recorded_in_a_ledger_that_was_made_anew(scratch: Scratch, writer: psycopg.Connection) -> None:
    scratch.sql("CREATE TABLE copy (LIKE pending_file_deletion INCLUDING ALL); DROP TABLE pending_file_deletion")
    scratch.sql("ALTER TABLE copy RENAME TO pending_file_deletion")

    for statement in LET_GO:
        writer.execute(statement)

    assert len(recorded("scratch")) == 4
