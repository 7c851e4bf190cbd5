"""Roles: who may write a table is recorded, and gets at the ledger by no way; who may not own a table is told."""

from __future__ import annotations

import pytest
from django.db import connection

from pgcleanup.status import Health, look
from pgcleanup.triggers import sync
from tests.database.roles import logged_in, make_clerk, make_role, refused
from tests.project import database_url
from tests.support import Scratch, ledger, manage, recorded, run_sql

pytestmark = pytest.mark.django_db


@pytest.fixture
def clerk() -> str:
    """Make a role that may write the documents, and make tables of its own. Returns its name, quoted."""
    return make_clerk()


def row_function() -> str:
    [[name]] = run_sql("SELECT oid::regproc::text FROM pg_proc WHERE proname LIKE 'pgcleanup_row_project_document%'")
    return str(name)


class TestClerk:
    """A role with rights on its table and none on the ledger."""

    @pytest.mark.parametrize(
        ("operation", "statement"),
        [
            ("UPDATE", "UPDATE project_document SET file = 'b.txt'"),
            ("DELETE", "DELETE FROM project_document"),
            ("TRUNCATE", "TRUNCATE project_document, project_attachment"),
        ],
    )
    def test_writes_as_before_and_is_recorded_by_name(self, clerk: str, operation: str, statement: str) -> None:
        with logged_in(clerk):
            run_sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt')")
            run_sql(statement)

        [entry] = ledger()
        assert (entry.name, entry.operation, f'"{entry.db_user}"') == ("a.txt", operation, clerk)

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM pending_file_deletion",
            "INSERT INTO pending_file_deletion (source, name) VALUES ('a', 'b')",
            "UPDATE pending_file_deletion SET keep = true",
            "DELETE FROM pending_file_deletion",
            "TRUNCATE pending_file_deletion",
            "SELECT * FROM settled_file_deletion",
            "UPDATE file_deletion_column SET storage_key = ''",
        ],
    )
    def test_cannot(self, clerk: str, statement: str) -> None:
        with logged_in(clerk):
            assert "permission denied" in refused(statement)

    def test_cannot_attach_a_record_function_to_a_table_of_its_own(self, clerk: str) -> None:
        function = row_function()

        with logged_in(clerk):
            run_sql("CREATE TABLE mine (id int, file text, thumb text)")
            said = refused(f"CREATE TRIGGER t AFTER UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION {function}()")

        assert "permission denied for function" in said

    def test_cannot_attach_one_to_the_recorded_table_either(self, clerk: str) -> None:
        function = row_function()
        run_sql(f"GRANT TRIGGER ON project_document TO {clerk}")

        with logged_in(clerk):
            said = refused(f"CREATE TRIGGER t AFTER INSERT ON project_document EXECUTE FUNCTION {function}()")

        assert "permission denied for function" in said

    def test_cannot_replace_a_record_function(self, clerk: str) -> None:
        function = row_function()

        with logged_in(clerk):
            said = refused(
                f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
            )

        assert "must be owner of function" in said

    def test_does_not_redirect_the_ledger_by_its_search_path(self, clerk: str) -> None:
        with logged_in(clerk):
            run_sql("CREATE TEMP TABLE pending_file_deletion (source text, name text)")
            run_sql("SET LOCAL search_path = pg_temp, public")
            run_sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt')")
            run_sql("DELETE FROM project_document")

        assert run_sql("SELECT name FROM public.pending_file_deletion") == [("a.txt",)]
        assert run_sql("SELECT * FROM pg_temp.pending_file_deletion") == []

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE project_document SET title = 'x', file = NULL",
            "DELETE FROM project_document",
            "TRUNCATE project_document",
        ],
    )
    def test_owner_of_a_table_cannot_have_code_of_its_own_run_with_the_functions_rights(
        self, clerk: str, statement: str
    ) -> None:
        run_sql("ALTER TABLE project_attachment DROP document_id")
        run_sql(f"ALTER TABLE project_document OWNER TO {clerk}; ALTER TABLE project_document ALTER file DROP NOT NULL")
        with logged_in(clerk):
            # A type with a cast to text: whoever casts runs the clerk's code.
            run_sql(
                "CREATE TYPE trap AS (name text);"
                "CREATE FUNCTION spring(trap) RETURNS text LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;"
                "CREATE CAST (trap AS text) WITH FUNCTION spring(trap) AS IMPLICIT;"
                "ALTER TABLE project_document ALTER file TYPE trap USING row(file)::trap;"
                "INSERT INTO project_document (title, file) VALUES ('', row('a.txt'))"
            )

            run_sql(statement)

        assert recorded()[0][1] == "(a.txt)"


class TestMigratingRole:
    """A role that migrates without owning every table."""

    def test_sync_reports_the_tables_that_are_not_its_own_and_goes_on(self, clerk: str) -> None:
        sync("default")
        run_sql("DROP TRIGGER pgcleanup_row ON project_document; DROP TRIGGER pgcleanup_row ON project_page")
        run_sql(f"GRANT SELECT ON file_deletion_column TO {clerk}")

        with logged_in(clerk):
            report = sync("default")

        assert report is not None
        assert report.changed == []
        assert [table for table, _ in report.failed] == ["public.project_document", "public.project_page"]
        assert all("must be owner" in error or "permission denied" in error for _, error in report.failed)

    def test_sync_with_nothing_to_do_needs_no_rights(self, clerk: str) -> None:
        sync("default")
        run_sql(f"GRANT SELECT ON file_deletion_column TO {clerk}")

        with logged_in(clerk):
            report = sync("default")

        assert report is not None
        assert (report.changed, report.failed) == ([], [])

    def test_migrate_goes_on_and_names_the_tables_on_stderr(self, scratch: Scratch) -> None:
        # Of this server, not of this database alone: other test processes make theirs.
        name = f"migrating {connection.settings_dict['NAME']}"
        scratch.sql(
            f'CREATE ROLE "{name}" LOGIN PASSWORD \'secret\'; GRANT pg_read_all_data, pg_write_all_data TO "{name}"'
        )
        try:
            scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")
            settings = {
                **connection.settings_dict,
                **database_url.parse(scratch.url),
                "USER": name,
                "PASSWORD": "secret",
            }

            env = {**scratch.env, "DATABASE_URL": database_url.render(settings)}
            done = manage(env, "migrate", "--skip-checks", "-v", "0", check=False)
        finally:
            scratch.sql(f'DROP ROLE "{name}"')

        assert done.returncode == 0
        assert "pgcleanup: public.project_page: permission denied for table project_page" in done.stderr

    def test_plain_role_that_owns_all_needs_no_more(self, clerk: str) -> None:
        for kind, name in run_sql(
            "SELECT 'TABLE', oid::regclass::text FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
        ):
            run_sql(f"ALTER {kind} {name} OWNER TO {clerk}")
        run_sql("DROP TRIGGER pgcleanup_row ON project_document; ALTER TABLE project_document ALTER file TYPE text")

        with logged_in(clerk):
            report = sync("default")

        assert report is not None
        assert report.failed == []
        run_sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt'); DELETE FROM project_document")
        assert recorded() == [("project.document.file", "a.txt", "DELETE")]


class TestDrainer:
    """A role of the drain's own, with the rights that the tables of an earlier deploy had."""

    LEDGER = (
        "pending_file_deletion, settled_file_deletion, file_deletion_stamp, file_deletion_column, file_deletion_control"
    )

    def test_status_says_which_tables_it_may_not_read_with_the_grant(self) -> None:
        sync("default")
        drainer = make_role("drainer")
        run_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {drainer}; GRANT DELETE ON {self.LEDGER} TO {drainer}")
        with logged_in(drainer):
            before = look("default")
        run_sql(f"REVOKE SELECT ON project_attachment, project_page FROM {drainer}")

        with logged_in(drainer):
            after = look("default")

        assert before.health is Health.HEALTHY
        assert after.health is Health.BROKEN
        [problem] = after.problems
        tables = '"public"."project_attachment", "public"."project_page"'
        assert problem == (
            f'In database "default" the role {drainer[1:-1]} may not read {tables}, which may name files, so its '
            "drains delete nothing of those storages. "
            f"As the tables' owner: GRANT SELECT ON {tables} TO {drainer};"
        )

    def test_right_on_the_column_is_enough(self) -> None:
        sync("default")
        drainer = make_role("drainer")
        run_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {drainer}; GRANT DELETE ON {self.LEDGER} TO {drainer}")
        run_sql(f"REVOKE SELECT ON project_page FROM {drainer}; GRANT SELECT (scan) ON project_page TO {drainer}")

        with logged_in(drainer):
            assert look("default").problems == ()

    def test_status_of_a_role_that_only_looks_needs_no_other_table(self) -> None:
        sync("default")
        monitor = make_role("monitor")
        run_sql(f"GRANT SELECT ON {self.LEDGER}, django_migrations TO {monitor}")

        with logged_in(monitor):
            assert look("default").problems == ()


class TestPartitionOwner:
    """The owner of a partitioned table, who is not the owner of the functions."""

    PARTITIONED = (
        "ALTER TABLE thirdparty_brochure RENAME TO other;"
        "CREATE TABLE thirdparty_brochure (id bigint NOT NULL, file varchar(100) NOT NULL) PARTITION BY RANGE (id)"
    )

    def test_can_add_partitions(self, clerk: str) -> None:
        run_sql(f"{self.PARTITIONED}; ALTER TABLE thirdparty_brochure OWNER TO {clerk}")
        sync("default")

        with logged_in(clerk):
            run_sql("CREATE TABLE leaf PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100)")
            run_sql("INSERT INTO leaf VALUES (7, 'a.pdf'); DELETE FROM leaf")

        assert recorded() == [("thirdparty.brochure.file", "a.pdf", "DELETE")]

    def test_can_add_partitions_after_the_table_changed_hands(self, clerk: str) -> None:
        run_sql(self.PARTITIONED)
        sync("default")
        run_sql(f"ALTER TABLE thirdparty_brochure OWNER TO {clerk}")

        sync("default")

        with logged_in(clerk):
            run_sql("CREATE TABLE leaf PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100)")

    def test_can_add_partitions_after_the_grant_was_taken_away(self, clerk: str) -> None:
        run_sql(f"{self.PARTITIONED}; ALTER TABLE thirdparty_brochure OWNER TO {clerk}")
        sync("default")
        for (function,) in run_sql(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup_row_thirdparty%'"
        ):
            run_sql(f"REVOKE ALL ON FUNCTION {function} FROM {clerk}")

        sync("default")

        with logged_in(clerk):
            run_sql("CREATE TABLE leaf PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100)")
