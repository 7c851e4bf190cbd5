"""`dumpdata` and `loaddata` of a whole project take the ledger and the history along."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command

from pgcleanup.triggers import sync
from tests.database.test_append_only import SETTLE
from tests.support import Scratch

TABLES = ("pending_file_deletion", "file_deletion_stamp", "settled_file_deletion", "file_deletion_column")


# Django makes its own anew in every database; and it cannot read columns of such names as the last two have.
LEFT_OUT = ["contenttypes", "auth.permission", "project.odd", "project.percent"]


def content(scratch: Scratch) -> dict[str, list[tuple[object, ...]]]:
    """Return what our tables hold."""
    return {table: scratch.sql(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES}


def sizes(scratch: Scratch) -> dict[str, int]:
    """Return how many rows our tables hold."""
    return {table: len(rows) for table, rows in content(scratch).items()}


@pytest.fixture
def dump(scratch: Scratch, tmp_path: Path) -> str:
    """Return a dump of a database with a pending entry, a stamped one and some history."""
    sync("scratch")
    scratch.sql("INSERT INTO project_place (photo) VALUES ('a.png'), ('b.png'); DELETE FROM project_place")
    scratch.sql(
        "WITH stamp AS (INSERT INTO file_deletion_stamp (fence) VALUES ('{3/17}') RETURNING id) "
        "UPDATE pending_file_deletion SET stamp_id = (SELECT id FROM stamp) WHERE name = 'a.png'"
    )
    scratch.sql(SETTLE, [[1, 200]])
    path = str(tmp_path / "dump.json")
    call_command("dumpdata", database="scratch", exclude=LEFT_OUT, output=path, verbosity=0)
    return path


def test_dump_is_loaded_over_what_it_was_made_of_and_the_history_stays_as_it_was(scratch: Scratch, dump: str) -> None:
    before = content(scratch)

    call_command("loaddata", dump, database="scratch", verbosity=0)

    assert content(scratch)["settled_file_deletion"] == before["settled_file_deletion"]
    assert sizes(scratch) == {table: len(rows) for table, rows in before.items()}


def test_dump_is_loaded_into_an_empty_database(scratch: Scratch, dump: str) -> None:
    before = sizes(scratch)
    call_command("flush", database="scratch", interactive=False, verbosity=0)

    call_command("loaddata", dump, database="scratch", verbosity=0)

    assert sizes(scratch) == before
