"""Which statement of ours takes which lock on a user's table, and how long others wait behind it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from pytest_django import Settings

from pgcleanup.triggers import SyncReport, inspect, sync, uninstall
from tests.support import MANAGE, Scratch, run_sql

LOCKED = """
SELECT relation::regclass::text, mode FROM pg_locks JOIN pg_class c ON c.oid = relation
 WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock' AND c.relkind IN ('r', 'p')
   AND c.relnamespace = 'public'::regnamespace AND c.relname !~ '^(pending_file|settled_file|file_deletion)_'
"""
# Whether a session waits for the lock that CREATE TRIGGER needs. Other databases of the server have the same oids.
HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
WAITS = f"SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND NOT granted AND {HERE})"


def locked() -> set[tuple[str, str]]:
    """Return the tables of the application that this transaction has locked beyond reading, and how."""
    return {(table, mode) for table, mode in run_sql(LOCKED)}


def locks_of(work: Callable[[], object]) -> set[tuple[str, str]]:
    """Return the locks that come with the work; those of other modes count, even where a stronger one is held."""
    before = locked()
    work()
    return locked() - before


@pytest.mark.django_db
class TestModes:
    """The lock of each statement, as docs/coverage.md has it."""

    @pytest.fixture(autouse=True)
    def _synced(self) -> None:
        sync("default")

    def test_sync_with_nothing_to_do_locks_nothing(self) -> None:
        assert locks_of(lambda: sync("default")) == set()

    def test_look_at_the_triggers_locks_nothing(self) -> None:
        assert locks_of(lambda: inspect("default")) == set()

    @pytest.mark.parametrize("attribute", ["SECURITY INVOKER", "SET search_path = public"])
    def test_replaced_function_locks_nothing(self, attribute: str) -> None:
        for (function,) in run_sql("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"):
            run_sql(f"ALTER FUNCTION {function} {attribute}")

        assert locks_of(lambda: sync("default")) == set()

    def test_missing_trigger_makes_writers_wait_but_no_reader(self) -> None:
        run_sql("DROP TRIGGER pgcleanup_row ON project_page")

        assert locks_of(lambda: sync("default")) == {("project_page", "ShareRowExclusiveLock")}

    def test_missing_trigger_of_a_partitioned_table_locks_its_partitions_too(self) -> None:
        run_sql(
            "ALTER TABLE thirdparty_brochure RENAME TO plain;"
            "CREATE TABLE thirdparty_brochure (id bigint, file text) PARTITION BY RANGE (id);"
            "CREATE TABLE leaf PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100)"
        )

        assert locks_of(lambda: sync("default")) >= {
            ("thirdparty_brochure", "ShareRowExclusiveLock"),
            ("leaf", "ShareRowExclusiveLock"),
        }

    def test_trigger_that_is_not_needed_any_more_locks_its_table_for_a_moment(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document"]

        assert locks_of(lambda: sync("default")) == {("project_document", "AccessExclusiveLock")}

    def test_uninstall_locks_each_table_for_a_moment(self) -> None:
        taken = locks_of(lambda: uninstall("default"))

        assert ("project_document", "AccessExclusiveLock") in taken
        assert {mode for _, mode in taken} == {"AccessExclusiveLock"}

    @pytest.mark.parametrize(
        ("write", "own"),
        [
            ("UPDATE project_page SET scan = 'b.png'", {"RowExclusiveLock"}),
            ("DELETE FROM project_page", {"RowExclusiveLock"}),
            ("TRUNCATE project_page", {"AccessExclusiveLock", "ShareLock"}),
        ],
        ids=["UPDATE", "DELETE", "TRUNCATE"],
    )
    def test_recording_locks_nothing_that_the_write_does_not_lock(self, write: str, own: set[str]) -> None:
        run_sql("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'a.png')")

        assert locks_of(lambda: run_sql(write)) <= {("project_page", lock) for lock in own}


class TestWaiting:
    """Tables that somebody holds for longer than we may wait."""

    @pytest.fixture(autouse=True)
    def _short(self, settings: Settings) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=100)

    def test_function_is_replaced_while_somebody_has_the_whole_table_to_himself(self, scratch: Scratch) -> None:
        sync("scratch")
        for (function,) in scratch.sql("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"):
            scratch.sql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
        with scratch.session(autocommit=False) as owner:
            owner.execute("LOCK TABLE project_page, project_document IN ACCESS EXCLUSIVE MODE")

            report = sync("scratch")

        assert report is not None
        assert report.failed == []
        assert {"public.project_page", "public.project_document"} <= set(report.changed)

    def test_writers_that_queue_up_behind_us_go_on_although_the_table_stays_busy(
        self, scratch: Scratch, settings: Settings
    ) -> None:
        # Long enough that the other writer is surely behind us in the queue.
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=400)
        scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")
        insert = "INSERT INTO project_page (book, number, scan) VALUES ('b', {}, 'p.png')"
        with scratch.session(autocommit=False) as busy, scratch.session() as other, ThreadPoolExecutor() as pool:
            busy.execute(insert.format(1))
            syncing = pool.submit(in_a_thread, "scratch")
            while not syncing.done() and not other.execute(WAITS).fetchone()[0]:
                time.sleep(0.005)

            other.execute(insert.format(2))

            assert not busy.closed
            report = syncing.result()
        assert report is not None
        assert [table for table, _ in report.failed] == ["public.project_page"]

    def test_another_sync_that_takes_long_is_waited_for_no_longer_than_a_table(self, scratch: Scratch) -> None:
        scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")
        with scratch.session(autocommit=False) as other:
            other.execute("SELECT pg_advisory_xact_lock(hashtext('pgcleanup'))")

            report = sync("scratch")

        assert report is not None
        assert ("public.project_page", "canceling statement due to lock timeout") in report.failed

    def test_advisory_lock_ends_with_the_sync(self, scratch: Scratch) -> None:
        scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

        sync("scratch")

        assert scratch.sql(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {HERE}") == [(0,)]

    def test_two_migrates_at_once_both_succeed(self, scratch: Scratch) -> None:
        for table in ("project_page", "project_document", "thirdparty_brochure", "project_cover"):
            scratch.sql(f"DROP TRIGGER pgcleanup_row ON {table}")
        for (function,) in scratch.sql("SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"):
            scratch.sql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
        command = [sys.executable, str(MANAGE), "migrate", "--skip-checks", "-v", "0"]

        processes = [
            subprocess.Popen(command, env=scratch.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60)[0] for process in processes]

        found = inspect("scratch")
        assert said == ["", ""]
        assert [process.returncode for process in processes] == [0, 0]
        assert found is not None
        assert found.problems() == []


def in_a_thread(using: str) -> SyncReport | None:
    """Sync on a connection of the thread's own."""
    try:
        return sync(using)
    finally:
        connections[using].close()
