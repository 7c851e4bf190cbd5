"""`sync` brings triggers and functions in step with the models: only what differs, table by table, never by force."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from pytest_django import Settings

from pgcleanup.apps import after_migrate
from pgcleanup.triggers import State, SyncReport, inspect, sync
from tests.project.models import Document, Selected
from tests.support import Scratch, alias_for, ledger, manage, recorded, run_sql, with_settings

TRIGGERS = """
SELECT tgrelid::regclass::text, tgname::text, tgenabled::text
  FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
 WHERE p.proname LIKE 'pgcleanup%' ORDER BY 1, 2
"""
FUNCTIONS = """
SELECT proname::text, prosrc, proacl::text, proconfig::text, prosecdef
  FROM pg_proc WHERE proname LIKE 'pgcleanup%' ORDER BY 1
"""
# Who made the rows of the catalog: a change leaves another transaction id there, even one that changes nothing.
VERSIONS = """
SELECT 'function', proname::text, xmin::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'
UNION ALL SELECT tgrelid::regclass::text, tgname::text, xmin::text FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'
UNION ALL SELECT 'column', source, xmin::text FROM file_deletion_column
ORDER BY 1, 2
"""


def triggers_of(table: str, using: str = "default") -> list[str]:
    """Return the triggers of ours that a table has and that fire."""
    return [name for where, name, enabled in run_sql(TRIGGERS, using=using) if where == table and enabled == "O"]


def function_of(table: str, kind: str = "row", using: str = "default") -> str:
    """Return the name of a table's record function, quoted for SQL."""
    [[name]] = run_sql(
        f"SELECT quote_ident(proname) FROM pg_proc WHERE proname ~ '^pgcleanup_{kind}_{table}_'", using=using
    )
    return str(name)


def states(using: str = "default") -> dict[str, set[str]]:
    """Return the states of each table's triggers."""
    found = inspect(using)
    assert found is not None
    result: dict[str, set[str]] = {}
    for trigger in found.plan.triggers:
        result.setdefault(trigger.table.name, set()).add(trigger.state.value)
    return result


ALL_THREE = ["pgcleanup_del", "pgcleanup_row", "pgcleanup_trunc"]


class TestFirst:
    """The first sync of a database."""

    def test_migrate_installs_the_triggers_of_every_file_column(self, empty_scratch: Scratch) -> None:
        call_command("migrate", database="scratch", verbosity=0)

        tables = {table for table, _, _ in run_sql(TRIGGERS, using="scratch")}
        assert tables == {
            '"Odd ""table"" name"',
            '"legacy 100%s"',
            "legacy_manual",
            "project_archive",
            "project_attachment",
            "project_avatar",
            "project_cover",
            "project_document",
            "project_invoice",
            "project_namedfile",
            "project_page",
            "project_place",
            "project_proof",
            "project_restaurant",
            "project_selected",
            "thirdparty_brochure",
        }
        assert all(triggers_of(table, "scratch") == ALL_THREE for table in tables)

    def test_migrate_in_a_process_of_its_own_does_it_and_says_nothing(self, empty_scratch: Scratch) -> None:
        done = empty_scratch.manage("migrate", "--skip-checks", "-v", "0")

        assert (done.stdout, done.stderr) == ("", "")
        assert states("scratch").keys() >= {"project_document", "thirdparty_brochure"}
        assert set().union(*states("scratch").values()) == {"installed"}

    def test_migrate_of_one_app_installs_only_what_has_a_table(self, empty_scratch: Scratch) -> None:
        call_command("migrate", "pgcleanup", database="scratch", verbosity=0)
        before = states("scratch")

        call_command("migrate", "thirdparty", database="scratch", verbosity=0)

        assert before == {}
        assert states("scratch") == {"thirdparty_brochure": {"installed"}}

    def test_database_without_a_ledger_is_left_alone(self, empty_scratch: Scratch) -> None:
        assert sync("scratch") is None
        assert inspect("scratch") is None


class TestSecond:
    """A sync that has nothing to do."""

    def test_second_migrate_changes_nothing(self, scratch: Scratch) -> None:
        scratch.manage("migrate", "--skip-checks", "-v", "0")
        before = scratch.sql(VERSIONS)

        done = scratch.manage("migrate", "--skip-checks", "-v", "0")

        assert scratch.sql(VERSIONS) == before
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.django_db
    def test_second_sync_reports_no_change(self) -> None:
        sync("default")

        report = sync("default")

        assert report is not None
        assert (report.changed, report.failed, report.disabled) == ([], [], [])

    def test_second_sync_waits_for_no_reader_and_no_writer(self, scratch: Scratch, settings: Settings) -> None:
        sync("scratch")
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=1)
        with scratch.session(autocommit=False) as reader, scratch.session(autocommit=False) as writer:
            reader.execute("SELECT * FROM project_document")
            writer.execute("INSERT INTO project_document (title, file) VALUES ('', '')")
            writer.execute("LOCK TABLE project_page IN ACCESS EXCLUSIVE MODE")

            report = sync("scratch")

        assert report is not None
        assert (report.changed, report.failed) == ([], [])

    def test_second_sync_holds_no_lock_on_a_users_table(self, scratch: Scratch) -> None:
        sync("scratch")

        with transaction.atomic(using="scratch"):
            sync("scratch")

            locked = scratch.sql(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND relation > 16384"
                " AND relation::regclass::text !~ '^(file_deletion_|pending_)'"
            )
        assert locked == []


class TestRepair:
    """What somebody else did to triggers and functions is put right."""

    pytestmark = pytest.mark.django_db

    @pytest.fixture(autouse=True)
    def _synced(self) -> None:
        sync("default")

    def test_edited_function_is_replaced(self) -> None:
        name = function_of("project_document")
        before = run_sql(FUNCTIONS)
        run_sql(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")

        report = sync("default")

        assert report is not None
        assert report.changed == ["public.project_document"]
        assert run_sql(FUNCTIONS) == before

    def test_edited_function_is_reported_as_outdated_before(self) -> None:
        name = function_of("project_document")
        run_sql(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")

        found = inspect("default")

        assert found is not None
        assert found.problems() == ["public.project_document: trigger outdated"]

    def test_function_that_was_opened_to_everybody_is_closed(self) -> None:
        name = function_of("project_document")
        before = run_sql(FUNCTIONS)
        run_sql(f"GRANT EXECUTE ON FUNCTION {name}() TO PUBLIC")

        sync("default")

        assert run_sql(FUNCTIONS) == before

    @pytest.mark.parametrize("change", ["SECURITY INVOKER", "RESET search_path", "SET search_path = public"])
    def test_function_that_was_altered_is_replaced(self, change: str) -> None:
        name = function_of("project_document")
        before = run_sql(FUNCTIONS)
        run_sql(f"ALTER FUNCTION {name}() {change}")

        sync("default")

        assert run_sql(FUNCTIONS) == before

    @pytest.mark.parametrize("trigger", ALL_THREE)
    def test_dropped_trigger_comes_back(self, trigger: str) -> None:
        run_sql(f"DROP TRIGGER {trigger} ON project_document")
        before = states()["project_document"]

        report = sync("default")

        assert report is not None
        assert before == {"installed", "missing"}
        assert report.changed == ["public.project_document"]
        assert triggers_of("project_document") == ALL_THREE

    def test_trigger_that_fires_something_else_is_replaced(self) -> None:
        run_sql(
            f"CREATE OR REPLACE TRIGGER pgcleanup_row AFTER INSERT ON project_document FOR EACH ROW"
            f" EXECUTE FUNCTION {function_of('project_document')}()"
        )

        sync("default")

        Document.objects.create(file="a.txt").delete()
        Document.objects.create(file="b.txt")
        Document.objects.update(file="c.txt")
        assert recorded() == [
            ("project.document.file", "a.txt", "DELETE"),
            ("project.document.file", "b.txt", "UPDATE"),
        ]

    def test_dropped_function_and_its_triggers_come_back(self) -> None:
        run_sql(f"DROP FUNCTION {function_of('project_document')}() CASCADE")

        sync("default")

        assert triggers_of("project_document") == ALL_THREE

    @pytest.mark.parametrize("trigger", ALL_THREE)
    def test_disabled_trigger_stays_disabled_and_is_reported(self, trigger: str) -> None:
        run_sql(f"ALTER TABLE project_document DISABLE TRIGGER {trigger}")

        report = sync("default")

        assert report is not None
        assert (report.changed, report.disabled) == ([], ["public.project_document"])
        assert trigger not in triggers_of("project_document")

    def test_disabled_trigger_stays_disabled_when_its_function_is_replaced(self) -> None:
        run_sql("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row")
        run_sql(f"GRANT EXECUTE ON FUNCTION {function_of('project_document')}() TO PUBLIC")

        report = sync("default")

        assert report is not None
        assert report.changed == ["public.project_document"]
        assert report.disabled == ["public.project_document"]
        assert triggers_of("project_document") == ["pgcleanup_del", "pgcleanup_trunc"]

    def test_disabled_trigger_stays_disabled_when_it_is_made_anew(self) -> None:
        run_sql("ALTER TABLE thirdparty_brochure DISABLE TRIGGER pgcleanup_row")
        run_sql("CREATE TABLE child () INHERITS (thirdparty_brochure)")

        sync("default")

        assert triggers_of("thirdparty_brochure") == ["pgcleanup_trunc"]
        assert triggers_of("child") == ["pgcleanup_row", "pgcleanup_trunc"]

    def test_disabled_trigger_is_a_problem(self) -> None:
        run_sql("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row")

        found = inspect("default")

        assert found is not None
        assert found.problems() == ["public.project_document: trigger disabled"]

    def test_trigger_that_always_fires_counts_as_installed(self) -> None:
        run_sql("ALTER TABLE project_document ENABLE ALWAYS TRIGGER pgcleanup_row")

        report = sync("default")

        assert report is not None
        assert (report.changed, report.disabled) == ([], [])

    def test_trigger_that_fires_for_replication_alone_is_reported_as_disabled(self) -> None:
        run_sql("ALTER TABLE project_document ENABLE REPLICA TRIGGER pgcleanup_row")

        report = sync("default")

        assert report is not None
        assert report.disabled == ["public.project_document"]

    def test_renamed_column_needs_its_function_alone(self) -> None:
        run_sql("ALTER TABLE project_document DROP thumb; ALTER TABLE project_document ADD thumb varchar(100)")
        before = run_sql("SELECT oid, xmin::text FROM pg_trigger WHERE tgname = 'pgcleanup_row' ORDER BY 1")

        report = sync("default")

        assert report is not None
        assert "public.project_document" in report.changed
        assert run_sql("SELECT oid, xmin::text FROM pg_trigger WHERE tgname = 'pgcleanup_row' ORDER BY 1") == before

    def test_retyped_column_replaces_the_function_so_that_no_session_keeps_an_old_plan(self) -> None:
        run_sql("ALTER TABLE project_document ALTER file TYPE text")

        report = sync("default")

        assert report is not None
        assert report.changed == ["public.project_document"]

    def test_triggers_of_other_libraries_are_left_alone(self) -> None:
        run_sql(
            "CREATE FUNCTION pgtrigger_theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE FUNCTION pgcleanup_is_also_the_start_of_this() RETURNS int LANGUAGE sql AS 'SELECT 1';"
            "CREATE TRIGGER pgtrigger_theirs BEFORE UPDATE ON project_document"
            " FOR EACH ROW EXECUTE FUNCTION pgtrigger_theirs();"
            "CREATE TRIGGER pgcleanup_theirs BEFORE UPDATE ON project_article"
            " FOR EACH ROW EXECUTE FUNCTION pgtrigger_theirs()"
        )
        theirs = "SELECT tgname FROM pg_trigger WHERE tgname LIKE '%theirs' ORDER BY 1"

        report = sync("default")

        assert report is not None
        assert report.changed == []
        assert run_sql(theirs) == [("pgcleanup_theirs",), ("pgtrigger_theirs",)]
        assert run_sql("SELECT pgcleanup_is_also_the_start_of_this()") == [(1,)]

    def test_missing_table_is_no_failure(self) -> None:
        run_sql("DROP TABLE thirdparty_brochure")

        report = sync("default")

        assert report is not None
        assert report.failed == []
        assert "thirdparty_brochure" not in states()

    def test_missing_column_is_no_failure_and_the_other_is_recorded(self) -> None:
        run_sql("ALTER TABLE project_document DROP file")

        report = sync("default")

        assert report is not None
        assert report.failed == []
        run_sql("INSERT INTO project_document (title, thumb) VALUES ('', 'a.png'); DELETE FROM project_document")
        assert recorded() == [("project.document.thumb", "a.png", "DELETE")]

    def test_new_column_is_recorded_after_it(self) -> None:
        run_sql("ALTER TABLE project_document DROP thumb")
        sync("default")
        run_sql("ALTER TABLE project_document ADD thumb varchar(100)")

        sync("default")

        Document.objects.create(thumb="a.png").delete()
        assert recorded() == [("project.document.thumb", "a.png", "DELETE")]


class TestPrune:
    """Triggers that nothing needs any more go, and their functions with them."""

    pytestmark = pytest.mark.django_db

    @pytest.fixture(autouse=True)
    def _synced(self) -> None:
        sync("default")

    def test_excluded_model_loses_its_triggers_and_functions(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document"]

        sync("default")

        assert triggers_of("project_document") == []
        assert run_sql("SELECT proname FROM pg_proc WHERE proname LIKE 'pgcleanup_%_project_document_%'") == []

    def test_excluded_model_is_recorded_again_once_it_is_included(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document"]
        sync("default")
        settings.PGCLEANUP_EXCLUDE = []

        sync("default")

        assert triggers_of("project_document") == ALL_THREE

    def test_excluded_field_is_not_recorded_and_its_neighbour_is(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document.thumb"]

        sync("default")

        Document.objects.create(file="a.txt", thumb="a.png").delete()
        assert recorded() == [("project.document.file", "a.txt", "DELETE")]

    def test_select_mode_leaves_the_selected_models_alone(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        settings.PGCLEANUP_INCLUDE = ["thirdparty.Brochure", "project.Document.file"]

        sync("default")

        assert states().keys() == {"project_selected", "thirdparty_brochure", "project_document"}
        Selected.objects.create(file="s.txt").delete()
        Document.objects.create(file="a.txt", thumb="a.png").delete()
        assert [entry.name for entry in ledger()] == ["s.txt", "a.txt"]

    def test_column_in_ignore_references_loses_its_triggers(self, settings: Settings) -> None:
        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Document"]

        sync("default")

        assert triggers_of("project_document") == []

    def test_model_with_the_ignore_decorator_has_no_trigger(self) -> None:
        assert triggers_of("project_ignored") == []

    def test_trigger_on_a_table_that_is_nobodys_any_more_goes(self) -> None:
        run_sql(
            f"CREATE TABLE forgotten (LIKE project_document);"
            f"CREATE TRIGGER pgcleanup_row AFTER UPDATE ON forgotten FOR EACH ROW"
            f" EXECUTE FUNCTION {function_of('project_document')}()"
        )

        report = sync("default")

        assert report is not None
        assert report.changed == ["public.forgotten"]
        assert triggers_of("forgotten") == []
        assert triggers_of("project_document") == ALL_THREE

    def test_function_that_no_trigger_needs_goes(self) -> None:
        run_sql("CREATE FUNCTION pgcleanup_row_old() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")

        sync("default")

        assert run_sql("SELECT proname FROM pg_proc WHERE proname = 'pgcleanup_row_old'") == []

    def test_ignored_columns_still_stand_in_the_column_table(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document"]

        sync("default")

        sources = [source for (source,) in run_sql("SELECT source FROM file_deletion_column")]
        assert {"project.document.file", "project.ignored.file"} <= set(sources)


class TestBusy:
    """A table that somebody else holds."""

    @pytest.fixture(autouse=True)
    def _short(self, settings: Settings) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)

    @pytest.fixture
    def bare(self, scratch: Scratch) -> Scratch:
        """Take the triggers of three tables away."""
        for table in ("project_document", "project_page", "thirdparty_brochure"):
            for trigger in ALL_THREE:
                scratch.sql(f"DROP TRIGGER {trigger} ON {table}")
        return scratch

    def test_table_that_a_writer_holds_is_reported_and_the_others_are_installed(self, bare: Scratch) -> None:
        with bare.session(autocommit=False) as writer:
            writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")

            report = sync("scratch")

        assert report is not None
        assert report.failed == [("public.project_page", "canceling statement due to lock timeout")]
        assert triggers_of("project_document", "scratch") == ALL_THREE
        assert triggers_of("thirdparty_brochure", "scratch") == ALL_THREE
        assert triggers_of("project_page", "scratch") == []

    def test_table_that_only_readers_hold_is_installed(self, bare: Scratch) -> None:
        with bare.session(autocommit=False) as reader:
            reader.execute("SELECT * FROM project_page")

            report = sync("scratch")

        assert report is not None
        assert report.failed == []

    def test_next_sync_installs_what_was_busy(self, bare: Scratch) -> None:
        with bare.session(autocommit=False) as writer:
            writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")
            sync("scratch")

        report = sync("scratch")

        assert report is not None
        assert report.changed == ["public.project_page"]

    def test_busy_table_is_tried_again(self, bare: Scratch, settings: Settings) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=150)
        with bare.session(autocommit=False) as writer, ThreadPoolExecutor() as pool:
            writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")
            # Longer than one lock_timeout, shorter than all attempts together.
            release = pool.submit(lambda: (writer.execute("SELECT pg_sleep(0.25)"), writer.rollback()))

            report = sync("scratch")

            release.result()
        assert report is not None
        assert report.failed == []

    def test_migrate_goes_on_and_names_the_busy_table_on_stderr(self, bare: Scratch, tmp_path: Path) -> None:
        env = with_settings(bare.env, tmp_path, PGCLEANUP_LOCK_TIMEOUT=timedelta(milliseconds=20))
        with bare.session(autocommit=False) as writer:
            writer.execute("INSERT INTO project_page (book, number, scan) VALUES ('b', 1, 'p.png')")

            done = manage(env, "migrate", "-v", "0", check=False)

        assert done.returncode == 0
        assert "pgcleanup: public.project_page: canceling statement due to lock timeout" in done.stderr
        assert "manage.py pgcleanup sync --database default" in done.stderr

    def test_lock_timeout_is_each_syncs_own(self, scratch: Scratch) -> None:
        before = scratch.sql("SHOW lock_timeout")

        sync("scratch")

        assert scratch.sql("SHOW lock_timeout") == before

    def test_two_syncs_at_once_both_succeed(self, scratch: Scratch, settings: Settings) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(seconds=5)
        aliases = ["scratch", "scratch2", "scratch3"]
        with alias_for("scratch2", scratch.url), alias_for("scratch3", scratch.url):
            for _ in range(3):
                for (function,) in scratch.sql(
                    "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
                ):
                    scratch.sql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
                scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

                with ThreadPoolExecutor() as pool:
                    reports = list(pool.map(in_a_thread, aliases))

                assert [report.failed for report in reports if report] == [[], [], []]
                assert set().union(*states("scratch").values()) == {"installed"}


def in_a_thread(using: str):
    """Sync on a connection of the thread's own."""
    try:
        return sync(using)
    finally:
        connections[using].close()


class TestNotOnMigrate:
    """PGCLEANUP_SYNC_ON_MIGRATE = False: only the column table is written."""

    @pytest.fixture(autouse=True)
    def _off(self, settings: Settings) -> None:
        settings.PGCLEANUP_SYNC_ON_MIGRATE = False

    def test_migrate_installs_no_trigger_but_writes_the_column_table(self, empty_scratch: Scratch) -> None:
        call_command("migrate", database="scratch", verbosity=0)

        assert run_sql(TRIGGERS, using="scratch") == []
        assert ("project.document.file",) in run_sql("SELECT source FROM file_deletion_column", using="scratch")

    def test_sync_by_hand_installs_them(self, empty_scratch: Scratch) -> None:
        call_command("migrate", database="scratch", verbosity=0)

        report = sync("scratch", triggers=True)

        assert report is not None
        assert "public.project_document" in report.changed
        assert triggers_of("project_document", "scratch") == ALL_THREE

    def test_migrate_advises_a_migration_for_what_it_leaves_out(
        self, empty_scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("migrate", database="scratch", verbosity=1)

        said = capsys.readouterr().err
        assert said.startswith("pgcleanup: ")
        assert (
            "Run: manage.py pgcleanup makemigration APP_LABEL --database scratch, "
            "then: manage.py migrate --database scratch\n"
        ) in said
        assert "pgcleanup sync" not in said

    @pytest.mark.django_db
    def test_migrate_that_cannot_write_the_column_table_is_to_be_run_again(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failed = SyncReport(failed=[("file_deletion_column", "locked")])
        monkeypatch.setattr("pgcleanup.triggers.sync", lambda using: failed)

        after_migrate("default", verbosity=0)

        assert capsys.readouterr().err == (
            "pgcleanup: file_deletion_column: locked\npgcleanup: Run: manage.py migrate --database default\n"
        )

    @pytest.mark.django_db
    def test_sync_leaves_missing_triggers_missing(self) -> None:
        run_sql("DROP TRIGGER pgcleanup_row ON project_document")

        sync("default")

        assert triggers_of("project_document") == ["pgcleanup_del", "pgcleanup_trunc"]


@pytest.mark.django_db(databases=["default", "other"])
def test_every_database_of_the_project_has_triggers_of_its_own() -> None:
    assert states("other").keys() == states("default").keys()
    assert triggers_of("project_document", "other") == ALL_THREE


@pytest.mark.django_db
def test_trigger_is_bound_to_no_column_and_has_no_condition() -> None:
    assert run_sql("SELECT DISTINCT tgattr::text, tgqual FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'") == [
        ("", None)
    ]


@pytest.mark.django_db
def test_function_is_closed_and_runs_as_its_owner_with_a_fixed_search_path() -> None:
    functions = run_sql(
        "SELECT DISTINCT prosecdef, proconfig, has_function_privilege('pg_monitor', oid, 'EXECUTE')"
        " FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
    )

    assert functions == [(True, ["search_path=pg_catalog, pg_temp"], False)]


@pytest.mark.django_db
def test_sync_inside_an_open_transaction_is_part_of_it() -> None:
    run_sql("DROP TRIGGER pgcleanup_row ON project_document")
    with suppress(DatabaseError), transaction.atomic():
        sync("default")
        run_sql("SELECT 1 / 0")

    assert states()["project_document"] == {State.INSTALLED.value, State.MISSING.value}


@pytest.mark.django_db
def test_table_in_another_schema_is_synced_where_it_is() -> None:
    run_sql("CREATE SCHEMA elsewhere; ALTER TABLE project_document SET SCHEMA elsewhere")
    run_sql("SET LOCAL search_path = public, elsewhere")

    report = sync("default")

    assert report is not None
    assert report.failed == []
    assert triggers_of("project_document") == ALL_THREE
    Document.objects.create(file="a.txt").delete()
    assert recorded() == [("project.document.file", "a.txt", "DELETE")]
