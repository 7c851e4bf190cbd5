"""A database that lost its ledger, after a partial restore for example: writes go on, and people are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command

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
    warnings = [line for line in said if line.startswith("WARNING pgcleanup: ") and "are not recorded" in line]
    # One for each of UPDATE, DELETE and TRUNCATE; the TRUNCATE reaches the attachments, too.
    assert len(warnings) == 4


def test_sync_leaves_a_database_without_ledger_alone(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    assert sync("scratch") is None
    assert inspect("scratch") is None


def test_migrate_says_that_the_ledger_is_gone(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    done = scratch.manage("migrate", "--skip-checks")

    assert 'pgcleanup: database "default" is said to be migrated, but lacks its ledger' in done.stderr


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


TABLES = ["pending_file_deletion", "settled_file_deletion", "file_deletion_stamp", "file_deletion_control"]
OURS = """
SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'
UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE '%pgcleanup%'
"""
REMAINS = (
    f"{OURS} UNION ALL SELECT relname FROM pg_class WHERE relname ~ '^(pending_file_|settled_file_|file_deletion_)'"
)


@pytest.mark.parametrize("lost", [*TABLES, ", ".join([*TABLES, "file_deletion_column"])])
def test_migrate_zero_leaves_nothing_behind_where_somebody_dropped(lost: str, scratch: Scratch) -> None:
    scratch.sql(f"DROP TABLE {lost}")

    call_command("migrate", "pgcleanup", "zero", database="scratch", verbosity=0, skip_checks=True)

    assert scratch.sql(REMAINS) == []


@pytest.mark.parametrize("arguments", [[], ["--discard-pending"]], ids=["", "discard"])
def test_uninstall_takes_the_triggers_out_without_a_ledger(arguments: list[str], scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion, file_deletion_column")

    call_command("pgcleanup", "uninstall", *arguments, database="scratch", verbosity=0)

    assert scratch.sql(OURS) == []


def test_what_is_said_of_a_lost_ledger_makes_it_anew_and_keeps_the_history(scratch: Scratch) -> None:
    scratch.sql(LET_GO[0] + ";" + LET_GO[2] + "; DROP TABLE pending_file_deletion")
    scratch.sql(
        "INSERT INTO settled_file_deletion (id, source, name, operation, transaction_id, db_user,"
        " application_name, attempts, outcome) VALUES (1, 's', 'n', 'DELETE', 1, 'u', 'a', 1, 'deleted')"
    )
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("pgcleanup", "status", database="scratch", stdout=out)
    commands = re.findall(r"manage.py migrate ([^,.\n]+)", out.getvalue())
    assert len(commands) == 2

    for command in commands:
        call_command("migrate", *command.split(), verbosity=0, skip_checks=True)

    scratch.sql(";".join([LET_GO[0], LET_GO[2]]))
    assert recorded("scratch") == [("project.document.file", "b.txt", "DELETE")]
    assert scratch.sql("SELECT name FROM settled_file_deletion") == [("n",)]
