"""Rights on the record functions: what a restore, default privileges or a person changed is seen and mended."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from pgcleanup.checks.database import check_database
from pgcleanup.triggers import inspect, sync
from tests import launcher
from tests.database.roles import logged_in, make_clerk, make_role, refused
from tests.project.models import Document
from tests.support import Scratch, alias_for, database, recorded_names, run_sql, server_version

FUNCTION = "SELECT oid::regproc::text FROM pg_proc WHERE proname LIKE 'pgcleanup_row_project_document%'"
RIGHTS = """
SELECT proname::text, md5(prosrc), proacl::text, proconfig::text, prosecdef, proowner::regrole::text
  FROM pg_proc WHERE proname LIKE 'pgcleanup%' ORDER BY 1
"""


def findings(using: str = "default") -> list[tuple[str, str]]:
    """Return what `manage.py check --database` says of the triggers: the sentence and what to type."""
    found = check_database(databases=[using])
    return [(message.msg, str(message.hint)) for message in found if message.id == "pgcleanup.W012"]


def function() -> str:
    [[name]] = run_sql(FUNCTION)
    return str(name)


def grant_on(role: str) -> None:
    """Give a role EXECUTE with the right to pass it on, and have it passed on."""
    other = make_role("other")
    run_sql(f"GRANT EXECUTE ON FUNCTION {function()} TO {role} WITH GRANT OPTION")
    with logged_in(role):
        run_sql(f"GRANT EXECUTE ON FUNCTION {function()} TO {other}")


def replace(role: str) -> None:
    run_sql(f"CREATE OR REPLACE FUNCTION {function()}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")


def alter(what: str) -> Callable[[str], None]:
    return lambda role: run_sql(what.format(function=function(), role=role)) and None


CHANGES: dict[str, Callable[[str], None]] = {
    "EXECUTE for everybody": alter("GRANT EXECUTE ON FUNCTION {function} TO PUBLIC"),
    "EXECUTE for one role": alter("GRANT EXECUTE ON FUNCTION {function} TO {role}"),
    "EXECUTE that was passed on": grant_on,
    "an owner who may not write the ledger": alter("ALTER FUNCTION {function} OWNER TO {role}"),
    "SECURITY INVOKER": alter("ALTER FUNCTION {function} SECURITY INVOKER"),
    "another search_path": alter("ALTER FUNCTION {function} SET search_path = public"),
    "one more setting": alter("ALTER FUNCTION {function} SET row_security = off"),
    "another body": replace,
}


@pytest.mark.django_db
class TestChanged:
    """A function that somebody changed."""

    @pytest.fixture(autouse=True)
    def _synced(self) -> None:
        sync("default")

    @pytest.fixture
    def clerk(self) -> str:
        return make_clerk()

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_check_names_the_table_of(self, change: Callable[[str], None], clerk: str) -> None:
        change(clerk)

        [(sentence, advice)] = findings()

        assert "public.project_document" in sentence
        assert "manage.py pgcleanup sync" in advice

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_sync_mends(self, change: Callable[[str], None], clerk: str) -> None:
        before = run_sql(RIGHTS)
        change(clerk)

        report = sync("default")

        assert report is not None
        assert (report.changed, report.failed) == (["public.project_document"], [])
        assert run_sql(RIGHTS) == before
        assert findings() == []

    def test_check_names_a_trigger_that_was_disabled(self) -> None:
        run_sql("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row")

        [(_, advice)] = findings()

        assert 'ALTER TABLE "public"."project_document" ENABLE TRIGGER "pgcleanup_row";' in advice

    def test_owner_who_may_write_the_ledger_is_left_as_it_is(self, clerk: str) -> None:
        run_sql(f"GRANT INSERT ON pending_file_deletion TO {clerk}; ALTER FUNCTION {function()} OWNER TO {clerk}")

        report = sync("default")

        assert report is not None
        assert report.changed == []

    def test_names_are_recorded_again_after_the_owner_was_mended(self, clerk: str) -> None:
        run_sql(f"ALTER FUNCTION {function()} OWNER TO {clerk}")
        Document.objects.create(file="lost.txt")
        Document.objects.update(file="a.txt")

        sync("default")

        Document.objects.update(file="b.txt")
        assert recorded_names() == ["a.txt"]


@pytest.mark.django_db
class TestDefaultPrivileges:
    """A role that default privileges give EXECUTE on every new function."""

    @pytest.fixture(autouse=True)
    def clerk(self) -> str:
        clerk = make_clerk()
        run_sql(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO {clerk} WITH GRANT OPTION")
        run_sql("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO PUBLIC")
        run_sql(f"DROP FUNCTION {function()} CASCADE")
        sync("default")
        return clerk

    def test_does_not_get_it_on_a_record_function(self, clerk: str) -> None:
        name = function()

        with logged_in(clerk):
            run_sql("CREATE TABLE mine (id int, file text, thumb text)")
            said = refused(f"CREATE TRIGGER t AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION {name}()")

        assert "permission denied for function" in said

    def test_leave_nothing_to_mend(self) -> None:
        found = inspect("default")

        assert found is not None
        assert found.problems() == []


def program(name: str) -> str:
    """Find a client program that can work with the server."""
    own = os.environ.get("PGCLEANUP_TEST_PGBIN") or str(launcher._binaries()[0])
    found = shutil.which(name, path=own) or shutil.which(name)
    major = server_version() // 10_000
    if found is None:
        pytest.skip(f"there is no {name}")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if f" {major}." not in said:
        pytest.skip(f"{name} is not that of PostgreSQL {major}")
    return found


class TestRestored:
    """A copy that pg_restore made without privileges: that opens every function to everybody."""

    @pytest.fixture
    def restored(self, scratch: Scratch, tmp_path: Path):
        dump, restore = program("pg_dump"), program("pg_restore")
        sync("scratch")
        subprocess.run([dump, "--format=custom", f"--file={tmp_path / 'dump'}", scratch.url], check=True)
        with database(f"{connection.settings_dict['NAME']}_restored") as url, alias_for("restored", url):
            subprocess.run([restore, "-x", "--no-owner", f"--dbname={url}", tmp_path / "dump"], check=True)
            yield url

    def test_is_seen_and_mended(self, restored: str) -> None:
        before = findings("restored")

        report = sync("restored")

        assert "outdated" in before[0][0]
        assert report is not None
        assert report.failed == []
        assert findings("restored") == []
        with psycopg.connect(restored) as session:
            open_ones = session.execute(
                "SELECT count(*) FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
                " AND has_function_privilege('pg_monitor', oid, 'EXECUTE')"
            ).fetchone()
        assert open_ones == (0,)
