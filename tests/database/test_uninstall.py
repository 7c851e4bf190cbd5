"""The app goes as it came: nothing of ours stays behind, and user writes go on all the while."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from pytest_django import Settings

from pgcleanup.exceptions import PendingEntries
from pgcleanup.triggers import sync, uninstall
from tests.support import Scratch, recorded

OURS = """
SELECT 'trigger', tgname::text FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'
UNION ALL SELECT 'function', proname FROM pg_proc WHERE proname LIKE '%pgcleanup%'
UNION ALL SELECT 'relation', relname FROM pg_class WHERE relname ~ '^(pending_file_|settled_file_|file_deletion_)'
"""
INSTALLED = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'"
LET_GO = """
INSERT INTO project_document (title, file) VALUES ('', 'a.txt'), ('', 'b.txt');
UPDATE project_document SET file = 'c.txt' WHERE file = 'a.txt';
DELETE FROM project_document;
SET CONSTRAINTS ALL IMMEDIATE;
TRUNCATE project_document CASCADE;
"""


def test_migrate_zero_leaves_nothing_of_ours_behind(scratch: Scratch) -> None:
    done = scratch.manage("migrate", "pgcleanup", "zero", "--skip-checks", "-v", "0")

    assert scratch.sql(OURS) == []
    assert (done.stdout, done.stderr) == ("", "")


def test_writes_go_on_after_migrate_zero_in_a_session_that_wrote_before(scratch: Scratch) -> None:
    with scratch.session() as other:
        other.execute(LET_GO)
        other.execute("DELETE FROM pending_file_deletion")
        scratch.manage("migrate", "pgcleanup", "zero", "--skip-checks", "-v", "0")

        other.execute(LET_GO)

        assert other.execute("SELECT count(*) FROM project_document").fetchone() == (0,)


def test_migrate_zero_refuses_while_entries_are_pending(scratch: Scratch) -> None:
    scratch.sql(LET_GO)
    before = scratch.sql(INSTALLED)

    done = scratch.manage("migrate", "pgcleanup", "zero", "--skip-checks", "-v", "0", check=False)

    assert done.returncode != 0
    assert "still has pending file deletions" in done.stderr
    assert "manage.py drain_deletions" in done.stderr
    assert scratch.sql(INSTALLED) == before
    assert len(recorded("scratch")) == 3


def test_drain_that_a_refused_migrate_zero_asks_for_can_run(scratch: Scratch) -> None:
    scratch.sql(LET_GO)
    scratch.manage("migrate", "pgcleanup", "zero", "--skip-checks", "-v", "0", check=False)

    done = scratch.manage("drain_deletions")

    assert "the grace period" in done.stdout


def test_migrate_brings_all_back(scratch: Scratch) -> None:
    before = scratch.sql(INSTALLED)
    scratch.manage("migrate", "pgcleanup", "zero", "--skip-checks", "-v", "0")

    scratch.manage("migrate", "--skip-checks", "-v", "0")

    scratch.sql(LET_GO)
    assert scratch.sql(INSTALLED) == before
    assert len(recorded("scratch")) == 3


def test_uninstall_refuses_while_entries_are_pending(scratch: Scratch) -> None:
    scratch.sql(LET_GO)

    with pytest.raises(PendingEntries, match="drain_deletions"):
        uninstall("scratch")

    scratch.sql(LET_GO)
    assert len(recorded("scratch")) == 6


def test_uninstall_takes_triggers_and_functions_but_not_the_tables_of_migrations(scratch: Scratch) -> None:
    uninstall("scratch")

    assert ("relation", "pending_file_deletion") in scratch.sql(OURS)
    assert [row for row in scratch.sql(OURS) if row[0] != "relation"] == []
    assert scratch.sql("SELECT to_regclass('file_deletion_column')") == [(None,)]


def test_uninstall_twice_is_as_good_as_once(scratch: Scratch) -> None:
    uninstall("scratch")

    uninstall("scratch")

    assert [row for row in scratch.sql(OURS) if row[0] != "relation"] == []


def test_uninstall_leaves_the_triggers_of_other_libraries(scratch: Scratch) -> None:
    scratch.sql(
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER theirs BEFORE UPDATE ON project_document FOR EACH ROW EXECUTE FUNCTION theirs()"
    )

    uninstall("scratch")

    assert scratch.sql("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal") == [("theirs",)]


def test_uninstall_takes_triggers_of_tables_that_are_no_models_any_more(scratch: Scratch) -> None:
    scratch.sql("ALTER TABLE thirdparty_brochure RENAME TO forgotten")

    uninstall("scratch")

    assert [row for row in scratch.sql(OURS) if row[0] != "relation"] == []


def test_uninstall_takes_those_of_partitions(scratch: Scratch) -> None:
    scratch.sql(
        "ALTER TABLE thirdparty_brochure RENAME TO leaf; ALTER TABLE leaf ALTER id DROP IDENTITY;"
        "CREATE TABLE thirdparty_brochure (id bigint NOT NULL, file varchar(100) NOT NULL) PARTITION BY RANGE (id);"
        "ALTER TABLE thirdparty_brochure ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)"
    )
    sync("scratch")

    uninstall("scratch")

    assert [row for row in scratch.sql(OURS) if row[0] != "relation"] == []


def test_nothing_is_recorded_while_a_busy_table_still_has_its_triggers(scratch: Scratch, settings: Settings) -> None:
    settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)
    with scratch.session(autocommit=False) as writer:
        writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")

        with pytest.raises(Exception, match=r"public\.project_page: canceling statement due to lock timeout"):
            uninstall("scratch")

        writer.execute("DELETE FROM project_page")
        writer.execute("TRUNCATE project_page")
        writer.commit()
    assert recorded("scratch") == []


def test_uninstall_after_a_busy_table_finishes_the_rest(scratch: Scratch, settings: Settings) -> None:
    settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)
    with scratch.session(autocommit=False) as writer:
        writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")
        with pytest.raises(Exception, match="lock timeout"):
            uninstall("scratch")

    uninstall("scratch")

    assert [row for row in scratch.sql(OURS) if row[0] != "relation"] == []


def test_database_without_a_ledger_has_nothing_to_uninstall(empty_scratch: Scratch) -> None:
    uninstall("scratch")

    assert empty_scratch.sql(OURS) == []


def test_uninstall_waits_for_a_name_that_is_let_go_meanwhile_and_puts_all_back(scratch: Scratch) -> None:
    scratch.sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt')")
    installed = scratch.sql(INSTALLED)
    with scratch.session() as writer:
        writer.autocommit = False
        writer.execute("DELETE FROM project_document")
        committing = threading.Timer(0.5, writer.commit)
        committing.start()

        with pytest.raises(PendingEntries, match="let go"):
            uninstall("scratch")

        committing.join()
    assert scratch.sql(INSTALLED) == installed
    assert scratch.sql("SELECT name FROM pending_file_deletion") == [("a.txt",)]
