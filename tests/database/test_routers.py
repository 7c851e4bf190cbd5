"""Several databases, routers, schemas other than public, and roles that own only a part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.triggers import inspect, sync
from tests.drain.support import put
from tests.support import Scratch, alias_for, recorded, run_sql

HERE = "tests.database.test_routers"
OURS = (
    "SELECT tablename FROM pg_tables WHERE tablename ~ '_file_deletion' OR tablename LIKE 'file_deletion_%' ORDER BY 1"
)


class NoLedgerOnScratch:
    """Keeps pgcleanup out of one database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if (db, app_label) == ("scratch", "pgcleanup") else None


class BrochuresElsewhere:
    """Has the third party's tables in another database than `scratch`."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db != "scratch" if app_label == "thirdparty" else None


def tables(using: str = "scratch") -> set[str]:
    """Return the tables that have triggers."""
    found = inspect(using)
    assert found is not None
    return {trigger.table.label for trigger in found.plan.triggers if trigger.state.value == "installed"}


def migrate(alias: str) -> None:
    """Migrate an app with a file column, and ours, which is enough for a database."""
    for app in ("thirdparty", "pgcleanup"):
        call_command("migrate", app, database=alias, verbosity=0)


def on_path(url: str, path: str) -> str:
    """Return the URL of a database whose sessions have this search_path."""
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{quote(path)}"


class TestForbidden:
    """A router keeps the ledger out of a database."""

    def test_migrate_leaves_the_database_alone_and_says_nothing(
        self, empty_scratch: Scratch, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.DATABASE_ROUTERS = [f"{HERE}.NoLedgerOnScratch"]

        migrate("scratch")

        assert empty_scratch.sql(OURS) == []
        assert capsys.readouterr().err == ""

    def test_migrate_says_what_to_do_once_the_router_allows_it(
        self, empty_scratch: Scratch, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.DATABASE_ROUTERS = [f"{HERE}.NoLedgerOnScratch"]
        migrate("scratch")
        settings.DATABASE_ROUTERS = []

        migrate("scratch")

        assert (
            'pgcleanup: database "scratch" is said to be migrated, but lacks its ledger, the table '
            "pending_file_deletion: its files are NOT recorded. Run: manage.py migrate pgcleanup 0003 --database "
            "scratch, then: manage.py migrate pgcleanup --database scratch\n"
        ) in capsys.readouterr().err

    def test_what_it_says_makes_the_ledger_and_the_triggers(
        self, empty_scratch: Scratch, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.DATABASE_ROUTERS = [f"{HERE}.NoLedgerOnScratch"]
        migrate("scratch")
        settings.DATABASE_ROUTERS = []

        call_command("migrate", "pgcleanup", "0003", database="scratch", verbosity=0)
        capsys.readouterr()
        call_command("migrate", "pgcleanup", database="scratch", verbosity=0)

        assert capsys.readouterr().err == ""
        assert tables() == {"public.thirdparty_brochure"}


def test_table_that_a_router_keeps_elsewhere_is_not_recorded_here(empty_scratch: Scratch, settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [f"{HERE}.BrochuresElsewhere"]

    call_command("migrate", database="scratch", verbosity=0)

    assert "public.project_document" in tables()
    assert "public.thirdparty_brochure" not in tables()


def test_table_that_is_there_although_a_router_keeps_it_elsewhere_still_counts(
    scratch: Scratch, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_ROUTERS = [f"{HERE}.BrochuresElsewhere"]
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    for alias in ("default", "other"):
        monkeypatch.delitem(connections.databases, alias)
    sync("scratch")
    path = put("a.pdf")
    scratch.sql("INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf')")
    scratch.sql("INSERT INTO project_invoice (scan) VALUES ('a.pdf'); DELETE FROM project_invoice")

    report = drain(using="scratch")

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()


class TestSqliteBeside:
    """A project with a PostgreSQL database and one of another kind."""

    @pytest.fixture
    def sqlite(self, tmp_path: Path, django_db_blocker) -> Iterator[str]:
        connections.databases["lite"] = {
            **connections["default"].settings_dict,
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "lite.sqlite3"),
            "OPTIONS": {},
        }
        try:
            with django_db_blocker.unblock():
                yield "lite"
        finally:
            connections["lite"].close()
            del connections["lite"]
            del connections.databases["lite"]

    def test_migrate_of_it_makes_no_table_of_ours_and_says_nothing(
        self, sqlite: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("migrate", "pgcleanup", database=sqlite, verbosity=0)

        assert [name for name in connections[sqlite].introspection.table_names() if "deletion" in name] == []
        assert capsys.readouterr().err == ""

    def test_drain_of_the_other_is_not_held_up_by_it(
        self, sqlite: str, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for alias in ("default", "other"):
            monkeypatch.delitem(connections.databases, alias)
        sync("scratch")
        scratch.sql("INSERT INTO project_invoice (scan) VALUES ('a.pdf'); DELETE FROM project_invoice")

        report = drain(using="scratch")

        assert report.exit_code == 0
        assert report.waiting == {"grace_period": 1}


class TestSchemas:
    """The search_path decides where Django's tables are, and where ours."""

    @pytest.fixture
    def url(self, empty_scratch: Scratch) -> str:
        empty_scratch.sql("CREATE SCHEMA app; CREATE SCHEMA files; DROP SCHEMA public")
        return empty_scratch.url

    def test_all_is_recorded_where_the_search_path_leads_to_no_public_schema(self, url: str) -> None:
        with alias_for("app", on_path(url, "app")):
            migrate("app")

            run_sql(
                "INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf'); DELETE FROM thirdparty_brochure", using="app"
            )

            assert {label.partition(".")[0] for label in tables("app")} == {"app"}
            assert recorded("app") == [("thirdparty.brochure.file", "a.pdf", "DELETE")]

    def test_ledger_may_be_in_a_schema_of_its_own(self, url: str) -> None:
        with alias_for("files", on_path(url, "files")):
            call_command("migrate", "pgcleanup", database="files", verbosity=0)
        with alias_for("app", on_path(url, "app,files")):
            call_command("migrate", "thirdparty", database="app", verbosity=0)

            run_sql(
                "INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf'); DELETE FROM thirdparty_brochure", using="app"
            )

            assert run_sql("SELECT name FROM files.pending_file_deletion", using="app") == [("a.pdf",)]
            [[schema]] = run_sql(
                "SELECT DISTINCT pronamespace::regnamespace::text FROM pg_proc WHERE proname LIKE 'pgcleanup_row%'",
                using="app",
            )
            assert schema == "files"

    def test_writer_with_another_search_path_is_recorded_as_well(self, url: str) -> None:
        with alias_for("app", on_path(url, "app")):
            migrate("app")
        with alias_for("elsewhere", on_path(url, "pg_catalog")):
            run_sql("INSERT INTO app.thirdparty_brochure (file) VALUES ('a.pdf')", using="elsewhere")

            run_sql("DELETE FROM app.thirdparty_brochure", using="elsewhere")

            assert run_sql("SELECT name FROM app.pending_file_deletion", using="elsewhere") == [("a.pdf",)]

    def test_second_project_in_another_schema_leaves_the_triggers_of_the_first_alone(self, url: str) -> None:
        for schema in ("app", "files"):
            with alias_for(schema, on_path(url, schema)):
                migrate(schema)

        with alias_for("app", on_path(url, "app")):
            assert sync("app").changed == []  # type: ignore[union-attr]
            assert "app.thirdparty_brochure" in tables("app")
