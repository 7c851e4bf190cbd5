"""Sync of code whose models are not those that the database was migrated to forgets nothing that still holds names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import Settings

from pgcleanup.triggers import inspect, sync
from tests.database.apps import MODELS, App
from tests.database.conftest import scratch_from
from tests.support import Scratch, recorded

RENAMED = MODELS.replace("file =", "scan =")
RENAME = 'migrations.RenameField("Offer", "file", "scan"),'
MOVED = MODELS + '    class Meta:\n        db_table = "moved"\n'
MOVE = 'migrations.AlterModelTable("Offer", "moved"),'
MORE = MODELS + '    more = models.FileField(upload_to="offers", default="")\n'
ADD = 'migrations.AddField("Offer", "more", models.FileField(upload_to="offers", default="")),'
WITHOUT = MODELS.replace('    file = models.FileField(upload_to="offers")\n', "")
FORGET = 'migrations.SeparateDatabaseAndState([], [migrations.RemoveField("Offer", "file")]),'
SHARED = "offers/shared.pdf"


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path, settings: Settings) -> Iterator[Scratch]:
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    yield from scratch_from(live_template, django_db_blocker, media_root)


@pytest.fixture(autouse=True)
def only_database(live: App, scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the database where this test has its files, and let the project have no other one to be asked."""
    sync("scratch")
    for alias in ("default", "other"):
        monkeypatch.delitem(connections.databases, alias)


def known() -> set[str]:
    """Return the sources of the app that the database knows, and has a column for."""
    found = inspect("scratch")
    assert found is not None
    return {row.source for row in found.known if row.source.startswith("shop.") and row.attnum}


def let_a_shared_name_go(scratch: Scratch, column: str = "file", table: str = "shop_offer") -> Path:
    """Store a file that two rows name, and let the name of another model's go."""
    path = Path(default_storage.path(SHARED))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"content")
    scratch.sql(f"UPDATE {table} SET {column} = %s WHERE id = (SELECT min(id) FROM {table})", [SHARED])
    scratch.sql("INSERT INTO project_document (title, file, thumb) VALUES ('', %s, '')", [SHARED])
    scratch.sql("DELETE FROM pending_file_deletion")
    scratch.sql("DELETE FROM project_document")
    return path


def drain() -> tuple[int, str]:
    """Run the command; return its exit code and what it says."""
    out, errors = StringIO(), StringIO()
    try:
        call_command("drain_deletions", database="scratch", stdout=out, stderr=errors)
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{errors.getvalue()}{error}"
    return 0, out.getvalue() + errors.getvalue()


def release(live: App, models: str, operations: str) -> None:
    """Deploy models and the migration that goes with them, and apply it."""
    live.models(models)
    live.migration("0002_change", operations)
    live.migrate()


def roll_code_back(live: App) -> None:
    """Deploy the first release again, which does not have the migration."""
    live.models(MODELS)
    (live.folder / "migrations" / "0002_change.py").unlink()


def migrate(*arguments: str) -> None:
    call_command("migrate", *arguments, database="scratch", verbosity=0, skip_checks=True)


@pytest.mark.parametrize(("models", "operations"), [(RENAMED, RENAME), (MOVED, MOVE)], ids=["field", "table"])
class TestCodeIsAhead:
    """New code is deployed, and a `migrate` of another app runs first."""

    @pytest.fixture
    def ahead(self, live: App, scratch: Scratch, models: str, operations: str) -> App:
        live.models(models)
        live.migration("0002_change", operations)
        return live

    def test_row_names_its_file_still(self, ahead: App, scratch: Scratch) -> None:
        path = let_a_shared_name_go(scratch)

        migrate("pgcleanup")
        code, said = drain()

        assert (code, path.exists()) == (3, True), said
        assert "shop.offer.file" in said

    def test_name_that_old_code_lets_go_is_recorded(self, ahead: App, scratch: Scratch) -> None:
        scratch.sql("DELETE FROM pending_file_deletion")
        migrate("pgcleanup")

        scratch.sql("DELETE FROM shop_offer WHERE file = 'after.pdf'")

        assert ("shop.offer.file", "after.pdf", "DELETE") in recorded("scratch")

    def test_migrate_says_so_and_what_to_do(
        self, ahead: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        migrate("pgcleanup")

        said = capsys.readouterr().err
        assert "The database has the file column shop.offer.file, and the models of this code have not" in said
        assert "Apply the migrations that wait" in said

    def test_its_own_migrations_bring_all_in_step(self, ahead: App, scratch: Scratch) -> None:
        path = let_a_shared_name_go(scratch)
        migrate("pgcleanup")

        ahead.migrate()

        found = inspect("scratch")
        assert found is not None
        assert (found.left, found.plan.is_noop, found.columns_current) == ((), True, True)
        code, said = drain()
        assert (code, path.exists()) == (0, True), said
        assert "still named by another row" in said

    def test_where_migrate_leaves_the_triggers_alone_the_same_holds(
        self, ahead: App, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_SYNC_ON_MIGRATE = False
        path = let_a_shared_name_go(scratch)

        migrate("pgcleanup")
        code, said = drain()

        assert (code, path.exists()) == (3, True), said


class TestMigrationsTakenBack:
    """By the code that has them, before the code that goes with the database is deployed again."""

    def test_row_names_its_file_still(self, live: App, scratch: Scratch) -> None:
        release(live, RENAMED, RENAME)
        path = let_a_shared_name_go(scratch, "scan")

        live.migrate("0001_initial")
        code, said = drain()

        assert (code, path.exists()) == (3, True), said

    def test_name_that_goes_before_the_other_code_is_there_is_recorded(self, live: App, scratch: Scratch) -> None:
        release(live, RENAMED, RENAME)
        scratch.sql("DELETE FROM pending_file_deletion")

        live.migrate("0001_initial")
        scratch.sql("DELETE FROM shop_offer WHERE file = 'after.pdf'")

        assert sorted(name for _, name, _ in recorded("scratch")) == ["after.pdf", "other-after.pdf"]


class TestCodeIsBehind:
    """The code was rolled back, with its migrations, and the database was not."""

    @pytest.fixture
    def behind(self, live: App, scratch: Scratch) -> App:
        release(live, MORE, ADD)
        roll_code_back(live)
        return live

    def test_row_names_its_file_still(self, behind: App, scratch: Scratch) -> None:
        path = let_a_shared_name_go(scratch, "more")

        behind.migrate()
        code, said = drain()

        assert (code, path.exists()) == (3, True), said
        assert "shop.offer.more" in said

    def test_sync_fails_and_says_why(self, behind: App, scratch: Scratch) -> None:
        out = StringIO()

        with pytest.raises(CommandError):
            call_command("pgcleanup", "sync", database="scratch", stdout=out)

        assert "The database has the file column shop.offer.more" in out.getvalue()
        assert "shop.offer.more" in known()

    def test_old_migrations_that_a_squashed_one_has_replaced_are_no_other_code(
        self, live: App, scratch: Scratch
    ) -> None:
        scratch.sql(
            "UPDATE django_migrations SET id = id + 1000 WHERE app = 'shop';"
            " INSERT INTO django_migrations (id, app, name, applied) VALUES (500, 'shop', '0000_replaced', now())"
        )
        live.models(WITHOUT)
        live.migration("0002_change", FORGET)

        live.migrate()

        assert known() == {"shop.offer.other"}


class TestNumbers:
    """A dump and restore gives columns lower numbers than those that the database knows."""

    def test_row_of_a_column_that_only_newer_code_has_names_its_file_still(self, live: App, scratch: Scratch) -> None:
        release(live, MORE, ADD)
        path = let_a_shared_name_go(scratch, "more")
        scratch.sql("UPDATE file_deletion_column SET attnum = attnum + 7 WHERE source LIKE 'shop.%'")
        roll_code_back(live)

        live.migrate()
        code, said = drain()

        assert (code, path.exists()) == (3, True), said

    def test_row_of_a_column_whose_number_another_one_has_by_now_names_its_file_still(
        self, live: App, scratch: Scratch
    ) -> None:
        path = let_a_shared_name_go(scratch)
        scratch.sql("UPDATE file_deletion_column SET attnum = attnum + 1 WHERE source LIKE 'shop.%'")
        live.models(RENAMED)
        live.migration("0002_change", RENAME)

        migrate("pgcleanup")
        code, said = drain()

        assert (code, path.exists()) == (3, True), said


class TestNobodyCanTell:
    """What the migrations say cannot be found out."""

    def test_role_that_may_not_read_which_migrations_are_applied_is_told_the_same(
        self, live: App, scratch: Scratch
    ) -> None:
        live.models(WITHOUT)
        scratch.sql("CREATE ROLE clerk_of_versions; GRANT SELECT ON file_deletion_column TO clerk_of_versions")
        try:
            with connections["scratch"].cursor() as cursor:
                cursor.execute("SET ROLE clerk_of_versions")
                found = inspect("scratch")
                cursor.execute("RESET ROLE")
        finally:
            scratch.sql("DROP OWNED BY clerk_of_versions; DROP ROLE clerk_of_versions")

        assert found is not None
        assert [row.source for row in found.left] == ["shop.offer.file"]

    def test_migration_that_cannot_be_imported_is_nothing_to_fail_for(self, live: App, scratch: Scratch) -> None:
        live.models(WITHOUT)
        live.migration("0002_change", "there_is_no_such_name")
        live.forget_migrations()

        report = sync("scratch")

        assert report is not None
        assert report.left == ["shop.offer.file"]


class TestNoOtherVersion:
    """What the models and the migrations agree on goes, although the column is there."""

    def test_column_that_was_taken_from_the_models_alone_is_forgotten(self, live: App, scratch: Scratch) -> None:
        live.models(WITHOUT)
        live.migration("0002_change", FORGET)

        live.migrate()

        assert known() == {"shop.offer.other"}
        assert drain()[0] == 0

    def test_field_that_is_no_file_field_any_more_is_forgotten(self, live: App, scratch: Scratch) -> None:
        live.models(MODELS.replace('models.FileField(upload_to="offers")\n', "models.TextField()\n", 1))
        live.migration("0002_change", 'migrations.AlterField("Offer", "file", models.TextField()),')

        live.migrate()

        assert known() == {"shop.offer.other"}

    def test_field_that_the_settings_leave_out_is_forgotten(
        self, live: App, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_IGNORE_REFERENCES = ["shop.Offer.file"]

        report = sync("scratch")

        assert report is not None
        assert report.left == []
        assert known() == {"shop.offer.other"}

    def test_column_of_an_app_without_migrations_is_forgotten(self, live: App, scratch: Scratch, settings) -> None:
        live.models(WITHOUT)
        settings.MIGRATION_MODULES = {"shop": None}

        sync("scratch")

        assert known() == {"shop.offer.other"}
