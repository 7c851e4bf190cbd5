"""A user's write goes on whatever was done to the table or to the ledger a moment ago, and what is there is recorded.

Each change happens in a session that has written before, so that it has every function's plan cached.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.support import Scratch, ledger, run_sql

FILE = "project.document.file"
THUMB = "project.document.thumb"
SCAN = "project.page.scan"

WARM_UP = [
    "INSERT INTO project_document (id, title, file, thumb)"
    " VALUES (0, '', 'w.txt', 'w.png'), (-1, '', 'w.txt', 'w.png')",
    "UPDATE project_document SET file = 'w2.txt' WHERE id = 0",
    "DELETE FROM project_document WHERE id = 0",
    "TRUNCATE project_document CASCADE",
    "INSERT INTO project_page (book, number, scan) VALUES ('w', 0, 'w.png')",
    "UPDATE project_page SET scan = 'w2.png'",
    "DELETE FROM project_page",
    "INSERT INTO project_document (id, title, file, thumb) VALUES (7, '', 'a.txt', 'a.png')",
    "INSERT INTO project_page (book, number, scan) VALUES ('b', 3, 'p.png')",
    "DELETE FROM pending_file_deletion",
]

# What was done, and for DELETE and TRUNCATE: source, name and primary key of what is recorded afterwards.
BOTH = [(FILE, "a.txt", "7"), (THUMB, "a.png", "7")]
CHANGES = {
    "a renamed file column": ("ALTER TABLE project_document RENAME file TO scan", BOTH),
    "two renamed file columns": (
        "ALTER TABLE project_document RENAME file TO scan; ALTER TABLE project_document RENAME thumb TO small",
        BOTH,
    ),
    "a file column of another type": ("ALTER TABLE project_document ALTER file TYPE text", BOTH),
    "a file column that is no text any more": (
        "ALTER TABLE project_document ALTER file TYPE bytea USING convert_to(file, 'UTF8')",
        [(FILE, "\\x612e747874", "7"), (THUMB, "a.png", "7")],
    ),
    "a longer file column": ("ALTER TABLE project_document ALTER file TYPE varchar(3000)", BOTH),
    "a dropped file column": ("ALTER TABLE project_document DROP file", [(THUMB, "a.png", "7")]),
    "a dropped file column, in whose place is another": (
        "ALTER TABLE project_document DROP file; ALTER TABLE project_document ADD scan varchar(100) DEFAULT 'a scan'",
        [(THUMB, "a.png", "7")],
    ),
    "all file columns dropped": ("ALTER TABLE project_document DROP file, DROP thumb", []),
    "a renamed primary key": ("ALTER TABLE project_document RENAME id TO number", BOTH),
    "a primary key of another type": (
        "ALTER TABLE project_document ALTER id DROP IDENTITY; ALTER TABLE project_document ALTER id TYPE numeric",
        BOTH,
    ),
    "a dropped primary key": (
        "ALTER TABLE project_document DROP id CASCADE",
        [(FILE, "a.txt", None), (THUMB, "a.png", None)],
    ),
    "a renamed table": ("ALTER TABLE project_document RENAME TO paper", BOTH),
    "a table moved to another schema": (
        "CREATE SCHEMA elsewhere; ALTER TABLE project_document SET SCHEMA elsewhere;"
        " SET search_path = public, elsewhere",
        BOTH,
    ),
    "a table and a column renamed": (
        "ALTER TABLE project_document RENAME TO paper; ALTER TABLE paper RENAME file TO scan",
        BOTH,
    ),
    "a new column": ("ALTER TABLE project_document ADD scan varchar(100)", BOTH),
    "a generated column": ("ALTER TABLE project_document ADD s text GENERATED ALWAYS AS (file || 'x') STORED", BOTH),
}


@pytest.fixture
def notices(db: None) -> Iterator[list[str]]:
    """Collect what the server says on Django's connection."""
    connection.ensure_connection()
    said: list[str] = []

    def keep(diagnostic) -> None:
        said.append(f"{diagnostic.severity}: {diagnostic.message_primary}")

    connection.connection.add_notice_handler(keep)
    yield said
    connection.connection.remove_notice_handler(keep)


@pytest.fixture
def warm(notices: list[str]) -> None:
    """Have every record function run in this session before."""
    connection.check_constraints()
    for statement in WARM_UP:
        run_sql(statement)
        connection.check_constraints()
    notices.clear()


def entries() -> list[tuple[str, str, str | None]]:
    return [(entry.source, entry.name, entry.object_pk) for entry in ledger()]


def table() -> str:
    """Return the table of the documents, wherever it is by now."""
    return run_sql(
        "SELECT tgrelid::regclass::text FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid"
        " WHERE p.proname LIKE 'pgcleanup_row_project_document%'"
    )[0][0]


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_delete_goes_on_and_is_recorded_after(
    change: str, expected: list[tuple[str, str, str]], warm: None, notices: list[str]
) -> None:
    run_sql(change)
    notices.clear()

    run_sql(f"DELETE FROM {table()}")

    assert entries() == expected
    assert notices == []


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_truncate_goes_on_and_is_recorded_after(
    change: str, expected: list[tuple[str, str, str]], warm: None, notices: list[str]
) -> None:
    run_sql(change)
    notices.clear()

    run_sql(f"TRUNCATE {table()} CASCADE")

    assert entries() == expected
    assert [notice for notice in notices if not notice.startswith("NOTICE: truncate cascades")] == []


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_update_goes_on_and_is_recorded_after(
    change: str, expected: list[tuple[str, str, str]], warm: None, notices: list[str]
) -> None:
    run_sql(change)
    notices.clear()
    columns = [
        name
        for (name,) in run_sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attname IN ('thumb', 'small')",
            [table()],
        )
    ]

    run_sql(f"UPDATE {table()} SET title = 'other' {''.join(f', {column} = NULL' for column in columns)}")

    assert entries() == [entry for entry in expected if entry[0] == THUMB]
    assert notices == []


@pytest.mark.parametrize("statement", ["UPDATE project_page SET scan = ''", "DELETE FROM project_page"])
def test_write_goes_on_after_a_part_of_a_composite_key_was_renamed(statement: str, warm: None) -> None:
    run_sql("ALTER TABLE project_page RENAME number TO nr")

    run_sql(statement)

    assert entries() == [(SCAN, "p.png", '["b", "3"]')]


def test_truncate_goes_on_after_a_part_of_a_composite_key_was_renamed(warm: None) -> None:
    run_sql("ALTER TABLE project_page RENAME number TO nr")

    run_sql("TRUNCATE project_page")

    assert entries() == [(SCAN, "p.png", '["b", "3"]')]


@pytest.mark.parametrize("statement", ["DELETE FROM project_page", "TRUNCATE project_page"])
def test_name_is_recorded_without_its_key_after_a_part_of_a_composite_key_went(statement: str, warm: None) -> None:
    run_sql("ALTER TABLE project_page DROP number CASCADE")

    run_sql(statement)

    assert entries() == [(SCAN, "p.png", None)]


def test_column_that_took_over_a_file_columns_name_and_number_order_is_read_by_name(warm: None) -> None:
    run_sql(
        "ALTER TABLE project_document RENAME thumb TO small; ALTER TABLE project_document RENAME file TO thumb;"
        "ALTER TABLE project_document RENAME small TO file"
    )

    run_sql("DELETE FROM project_document")

    assert sorted(name for _, name, _ in entries()) == ["a.png", "a.txt"]


WRITES = {
    "UPDATE": "UPDATE project_document SET file = 'b.txt', thumb = NULL",
    "DELETE": "DELETE FROM project_document",
    "TRUNCATE": "TRUNCATE project_document, project_attachment",
}
NOT_RECORDED = "old file names of project_document are not recorded"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    "loss",
    [
        "DROP TABLE pending_file_deletion",
        "ALTER TABLE pending_file_deletion RENAME TO elsewhere",
        "CREATE SCHEMA elsewhere; ALTER TABLE pending_file_deletion SET SCHEMA elsewhere",
    ],
    ids=["dropped", "renamed", "moved to another schema"],
)
def test_write_goes_on_with_a_warning_while_the_ledger_is(
    loss: str, write: str, warm: None, notices: list[str]
) -> None:
    run_sql(loss)

    run_sql(write)

    assert run_sql("SELECT count(*) FROM project_document WHERE file = 'a.txt'") == [(0,)]
    assert any(NOT_RECORDED in notice.replace("public.", "") for notice in notices)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_is_recorded_again_once_the_ledger_is_back(write: str, warm: None) -> None:
    run_sql("ALTER TABLE pending_file_deletion RENAME TO elsewhere")
    run_sql("UPDATE project_document SET title = 'x', file = 'lost.txt'")
    run_sql("ALTER TABLE elsewhere RENAME TO pending_file_deletion")

    run_sql(write)

    assert [name for _, name, _ in entries()] == ["lost.txt", "a.png"]


@pytest.fixture
def plain_owner(db: None) -> str:
    """Hand all record functions over to a role that is no superuser and has no rights."""
    role = f"owner_of_{connection.settings_dict['NAME']}"
    run_sql(f'CREATE ROLE "{role}"; GRANT CREATE, USAGE ON SCHEMA public TO "{role}"')
    for (function,) in run_sql(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
        " AND pronamespace = 'public'::regnamespace"
    ):
        run_sql(f'ALTER FUNCTION {function} OWNER TO "{role}"')
    # As in a transaction that has recorded nothing yet.
    run_sql("SET LOCAL pgcleanup.recording = ''")
    return role


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_goes_on_with_a_warning_when_the_functions_owner_may_not_write_the_ledger(
    write: str, warm: None, notices: list[str], plain_owner: str
) -> None:
    run_sql(write)

    assert run_sql("SELECT count(*) FROM project_document WHERE file = 'a.txt'") == [(0,)]
    assert any(NOT_RECORDED in notice.replace("public.", "") for notice in notices)
    assert entries() == []


DAMAGE = {
    "lacks a column": "ALTER TABLE pending_file_deletion DROP context",
    "has a column of another type": "ALTER TABLE pending_file_deletion ALTER transaction_id TYPE boolean USING true",
    "makes no numbers": "ALTER TABLE pending_file_deletion ALTER id DROP IDENTITY",
    "has a column that nobody fills": "ALTER TABLE pending_file_deletion ADD mine int NOT NULL",
    "is a view": (
        "ALTER TABLE pending_file_deletion RENAME TO elsewhere;"
        " CREATE VIEW pending_file_deletion AS SELECT DISTINCT * FROM elsewhere"
    ),
    "is under row level security": (
        "ALTER TABLE pending_file_deletion ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    ),
    "is in a schema that the functions' owner may not use": (
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC; REVOKE USAGE ON SCHEMA public FROM {owner}"
    ),
    "refuses by a trigger": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON pending_file_deletion FOR EACH ROW EXECUTE FUNCTION refuse()"
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_write_goes_on_with_a_warning_where_the_ledger(
    damage: str, write: str, notices: list[str], plain_owner: str
) -> None:
    run_sql(f'ALTER TABLE pending_file_deletion OWNER TO "{plain_owner}"')
    run_sql(f'GRANT SELECT ON project_document TO "{plain_owner}"')
    run_sql("INSERT INTO project_document (id, title, file, thumb) VALUES (7, '', 'a.txt', 'a.png')")
    run_sql(damage.replace("{owner}", f'"{plain_owner}"'))

    run_sql(write)

    assert run_sql("SELECT count(*) FROM project_document WHERE file = 'a.txt'") == [(0,)]
    assert [said for said in notices if said.startswith("WARNING: pgcleanup: ") and "not recorded" in said]


@pytest.mark.parametrize("write", [WRITES["UPDATE"], WRITES["DELETE"]], ids=["UPDATE", "DELETE"])
def test_functions_owner_needs_no_more_than_to_insert_into_the_ledger(write: str, warm: None, plain_owner: str) -> None:
    run_sql(f'GRANT INSERT ON pending_file_deletion TO "{plain_owner}"')

    run_sql(write)

    assert entries() == BOTH


def test_truncate_goes_on_with_a_warning_when_the_functions_owner_may_not_read_the_table(
    warm: None, notices: list[str], plain_owner: str
) -> None:
    run_sql(f'GRANT INSERT ON pending_file_deletion TO "{plain_owner}"')

    run_sql(WRITES["TRUNCATE"])

    assert entries() == []
    assert any("project_document may not be read, its old file names are not recorded" in said for said in notices)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE project_document RENAME file TO scan",
        "ALTER TABLE project_document ALTER file TYPE text",
        "ALTER TABLE project_document RENAME id TO number",
        "ALTER TABLE pending_file_deletion RENAME COLUMN last_error TO oops",
    ],
)
def test_other_sessions_writes_go_on_after_a_committed(change: str, scratch: Scratch) -> None:
    with scratch.session() as other, scratch.session() as migrating:
        for statement in WARM_UP:
            other.execute(statement)
        other.execute("INSERT INTO project_document (id, title, file, thumb) VALUES (8, '', 'b.txt', 'b.png')")
        migrating.execute(change)

        other.execute("UPDATE project_document SET thumb = NULL WHERE title = ''")
        other.execute("DELETE FROM project_document")

        rows = other.execute("SELECT name FROM pending_file_deletion ORDER BY name").fetchall()
    assert [name for (name,) in rows] == ["a.png", "a.txt", "b.png", "b.txt"]


def test_change_in_the_middle_of_a_transaction_that_has_written_is_survived(scratch: Scratch) -> None:
    with scratch.session(autocommit=False) as other:
        other.execute("INSERT INTO project_place (id, photo) VALUES (1, 'a.png'), (2, 'b.png'), (3, 'c.png')")
        other.execute("SET CONSTRAINTS ALL IMMEDIATE")
        other.execute("UPDATE project_place SET photo = 'a2.png' WHERE id = 1")
        other.execute("DELETE FROM project_place WHERE id = 2")
        other.execute("ALTER TABLE project_place RENAME photo TO picture")

        other.execute("UPDATE project_place SET picture = 'c2.png' WHERE id = 3")
        other.execute("DELETE FROM project_place")
        other.commit()

    assert [entry.name for entry in ledger("scratch")] == ["a.png", "b.png", "c.png", "a2.png", "c2.png"]


def test_write_meanwhile_is_not_held_up_by_a_sync(scratch: Scratch) -> None:
    from pgcleanup.triggers import sync

    scratch.sql("ALTER TABLE project_place RENAME photo TO picture; ALTER TABLE project_place RENAME picture TO photo")
    with scratch.session(autocommit=False) as writer:
        writer.execute("INSERT INTO project_place (photo) VALUES ('a.png')")

        report = sync("scratch")

        writer.execute("DELETE FROM project_place")
        writer.commit()
    assert report is not None
    assert report.failed == []
    assert [entry.name for entry in ledger("scratch")] == ["a.png"]
