"""The explicit way: reviewed migrations install the triggers, and `migrate` itself installs none."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pytest_django import Settings

from pgcleanup import templates
from pgcleanup.triggers import inspect, uninstall
from tests.database.apps import CREATE, MODELS, App
from tests.database.conftest import scratch_from
from tests.support import Scratch, recorded

ALL = "file_deletion_triggers"
OBJECTS = """
SELECT tgrelid::regclass::text AS at, tgname::text AS name, pg_get_triggerdef(g.oid) AS definition
  FROM pg_trigger g WHERE tgname LIKE 'pgcleanup%' AND tgrelid <> 'settled_file_deletion'::regclass
UNION ALL
SELECT '', p.oid::regprocedure::text, prosrc || proacl::text || obj_description(p.oid, 'pg_proc')
  FROM pg_proc p WHERE proname ~ '^pgcleanup_(row|del|trunc)_'
 ORDER BY 1, 2
"""
OURS = "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'"
RENAMED = MODELS.replace("file =", "scan =")
RENAME = 'migrations.RenameField("Offer", "file", "scan"),'


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path, settings: Settings) -> Iterator[Scratch]:
    settings.PGCLEANUP_SYNC_ON_MIGRATE = False
    yield from scratch_from(live_template, django_db_blocker, media_root)


@pytest.fixture
def live(live: App) -> App:
    call_command("pgcleanup", "sync", database="scratch", verbosity=0)
    return live


def make(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it says."""
    out = StringIO()
    try:
        call_command("pgcleanup", "makemigration", "shop", *arguments, database="scratch", stdout=out)
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def check() -> tuple[int, str]:
    """Run `sync --check`, as CI would."""
    out = StringIO()
    try:
        call_command("pgcleanup", "sync", "--check", database="scratch", stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue()
    return 0, out.getvalue()


def applied(scratch: Scratch) -> list[str]:
    """Return the migrations of the app that are applied, in order."""
    return [name for (name,) in scratch.sql("SELECT name FROM django_migrations WHERE app = 'shop' ORDER BY id")]


def begin_again(scratch: Scratch) -> None:
    """Leave a database without a table in it."""
    scratch.sql("DROP SCHEMA public CASCADE")
    scratch.sql("CREATE SCHEMA public")


class TestAll:
    """The migration that a project begins with."""

    @pytest.fixture
    def written(self, live: App) -> Path:
        code, said = make("--all")
        path = live.folder / "migrations" / f"0002_{ALL}.py"

        assert (code, path.is_file()) == (0, True), said
        return path

    def test_new_database_is_in_step_after_its_migrations_alone(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        before = scratch.sql(OBJECTS)
        begin_again(scratch)
        live.migrate()

        code, said = check()

        assert (code, said.startswith("In step: ")) == (0, True), said
        assert [row[:2] for row in scratch.sql(OBJECTS)] == [row[:2] for row in before]

    def test_names_are_recorded_there(self, live: App, scratch: Scratch, written: Path) -> None:
        begin_again(scratch)
        live.migrate()

        scratch.sql("INSERT INTO shop_offer (file, other) VALUES ('a.pdf', ''); DELETE FROM shop_offer")

        assert recorded("scratch") == [("shop.offer.file", "a.pdf", "DELETE")]

    def test_database_whose_columns_have_other_numbers_is_in_step_as_well(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        begin_again(scratch)
        live.migrate("0001_initial")
        scratch.sql("ALTER TABLE shop_offer RENAME file TO moved")
        scratch.sql("ALTER TABLE shop_offer ADD file varchar(100) NOT NULL DEFAULT ''")
        scratch.sql("ALTER TABLE shop_offer DROP moved")
        live.migrate()

        assert check()[0] == 0

    def test_taking_it_back_leaves_no_trigger_and_no_function(self, live: App, scratch: Scratch, written: Path) -> None:
        begin_again(scratch)
        live.migrate()

        live.migrate("0001_initial")

        assert scratch.sql(OBJECTS) == []

    def test_it_depends_on_the_last_migration_of_every_app_that_it_is_about(self, written: Path) -> None:
        text = written.read_text()

        for dependency in ("('shop', '0001_initial')", "('project', '0002_", "('thirdparty', '0001_initial')"):
            assert dependency in text
        assert "('pgcleanup', '0001_initial')" in text

    def test_going_back_to_an_earlier_migration_of_ours_takes_none_of_the_projects_back(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        begin_again(scratch)
        live.migrate()

        call_command("migrate", "pgcleanup", "0001", database="scratch", verbosity=0, skip_checks=True)

        assert applied(scratch)[-1] == f"0002_{ALL}"

    def test_migrate_zero_refuses_before_it_takes_the_projects_tables_away(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        live.migration("0003_later", CREATE.replace("Offer", "Later"))
        path = live.folder / "migrations" / "0003_later.py"
        path.write_text(path.read_text().replace("'0001_initial'", f"'0002_{ALL}'"))
        begin_again(scratch)
        live.migrate()
        before = scratch.sql("SELECT app, name FROM django_migrations ORDER BY id")

        with pytest.raises(CommandError) as error:
            call_command("migrate", "pgcleanup", "zero", database="scratch", verbosity=0, skip_checks=True)

        assert f"would also take back shop.0002_{ALL}, shop.0003_later, and drop what they made" in str(error.value)
        assert f"out of the dependencies of shop.0002_{ALL}, and run it again" in str(error.value)
        assert scratch.sql("SELECT app, name FROM django_migrations ORDER BY id") == before

        written.write_text(written.read_text().replace("        ('pgcleanup', '0001_initial'),\n", ""))
        live.forget_migrations()
        call_command("migrate", "pgcleanup", "zero", database="scratch", verbosity=0, skip_checks=True)

        assert applied(scratch) == ["0001_initial", f"0002_{ALL}", "0003_later"]
        assert scratch.sql("SELECT * FROM shop_later") == []
        assert scratch.sql(OURS) == []

    def test_it_names_its_templates_and_what_they_were(self, written: Path) -> None:
        assert f"record_row.v1.sql  {templates.digest('record_row.v1.sql')[:32]}\n" in written.read_text()

    def test_it_needs_nothing_of_pgcleanup_to_run(self, written: Path) -> None:
        imports = [line for line in written.read_text().splitlines() if line.startswith(("import ", "from "))]

        assert imports == ["from django.db import OperationalError, migrations, transaction"]

    def test_it_does_nothing_in_another_database(self, live: App, scratch: Scratch, written: Path) -> None:
        out = StringIO()
        live.forget_migrations()

        call_command("sqlmigrate", "shop", f"0002_{ALL}", database="default", stdout=out)

        assert "CREATE" not in out.getvalue()

    def test_what_the_database_does_not_have_is_skipped(self, live: App, scratch: Scratch, written: Path) -> None:
        uninstall("scratch", discard_pending=True)
        scratch.sql('DROP TABLE thirdparty_brochure; DROP TABLE "legacy 100%s"')

        live.migrate()

        made = [row[1] for row in scratch.sql(OBJECTS)]
        assert "pgcleanup_row" in made
        assert not [name for name in made if "brochure" in name or "legacy_100" in name]
        live.migrate("0001_initial")
        assert scratch.sql(OBJECTS) == []

    def test_database_without_a_ledger_gets_no_triggers(self, live: App, scratch: Scratch, written: Path) -> None:
        uninstall("scratch", discard_pending=True)
        scratch.sql("DROP TABLE pending_file_deletion")

        live.migrate()

        assert scratch.sql(OBJECTS) == []

    def test_busy_table_is_waited_for_no_longer_than_the_lock_timeout_and_then_made_up_for(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        written.write_text(written.read_text().replace('"2000ms"', '"20ms"'))
        uninstall("scratch", discard_pending=True)
        with scratch.session(autocommit=False) as writer:
            writer.execute("LOCK TABLE thirdparty_brochure IN ROW EXCLUSIVE MODE")

            with pytest.raises(OperationalError, match=r'(?s)"public"."thirdparty_brochure" is busy.*migrate again'):
                live.migrate()

        # Each table by itself: those before it are made, and locked no more.
        assert "shop_offer" in {at for at, _, _ in scratch.sql(OBJECTS)}
        live.migrate()
        assert "thirdparty_brochure" in {at for at, _, _ in scratch.sql(OBJECTS)}

    def test_role_that_the_database_does_not_have_is_skipped(self, live: App, scratch: Scratch) -> None:
        live.migrate()
        role = f"owner of {scratch.url.rpartition('/')[2]}"
        scratch.sql(
            f'CREATE ROLE "{role}"; GRANT CREATE, USAGE ON SCHEMA public TO "{role}"; DROP TABLE shop_offer;'
            "CREATE TABLE shop_offer (id int, file text, other text) PARTITION BY LIST (id);"
            "CREATE TABLE shop_a PARTITION OF shop_offer DEFAULT;"
            f'ALTER TABLE shop_offer OWNER TO "{role}"'
        )
        granted = "SELECT has_function_privilege(%s, p.oid, 'EXECUTE') FROM pg_proc p WHERE proname ~ 'row_shop_offer'"
        try:
            make()
            path = live.folder / "migrations" / f"0002_{ALL}.py"
            live.migrate()
            found = scratch.sql(granted, [role])
            live.migrate("0001_initial")
            path.write_text(path.read_text().replace(role, "nobody here"))

            live.migrate()
        finally:
            scratch.sql(f'DROP TABLE IF EXISTS shop_offer; DROP OWNED BY "{role}"; DROP ROLE "{role}"')

        assert found == [(True,)]

    def test_database_that_has_its_triggers_already_takes_it_all_the_same(
        self, live: App, scratch: Scratch, written: Path
    ) -> None:
        live.migrate()

        assert check()[0] == 0


class TestNext:
    """The migrations that follow."""

    def test_nothing_is_written_where_nothing_differs(self, live: App, scratch: Scratch) -> None:
        code, said = make()

        assert code == 0
        assert said.startswith('Nothing to write: the triggers of database "scratch" are as they should be.')
        assert not (live.folder / "migrations" / f"0002_{ALL}.py").exists()

    def test_renamed_field_needs_the_functions_of_its_table_alone(self, live: App, scratch: Scratch) -> None:
        live.models(RENAMED)
        live.migration("0002_change", RENAME)
        live.migrate()
        before, differs = scratch.sql(OBJECTS), check()

        code, _ = make("--name", "scan")

        text = (live.folder / "migrations" / "0003_scan.py").read_text()
        live.migrate()
        assert (code, differs) == (0, (1, "public.shop_offer: trigger outdated\n"))
        assert "CREATE OR REPLACE TRIGGER" not in text
        assert "project_" not in text
        assert check()[0] == 0
        live.migrate("0002_change")
        assert scratch.sql(OBJECTS) == before

    def test_renamed_field_is_recorded_between_the_two_migrations(self, live: App, scratch: Scratch) -> None:
        live.models(RENAMED)
        live.migration("0002_change", RENAME)
        live.migrate()
        make()

        scratch.sql("UPDATE shop_offer SET scan = '' WHERE scan = 'later.pdf'")

        assert [name for _, name, _ in recorded("scratch")] == ["later.pdf", "pending.pdf"]

    def test_trigger_that_nothing_needs_any_more_is_dropped_and_comes_back(
        self, live: App, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Page"]
        before = scratch.sql(OBJECTS)

        make()
        live.migrate()

        assert check()[0] == 0
        assert len(scratch.sql(OBJECTS)) == len(before) - 6
        live.migrate("0001_initial")
        assert scratch.sql(OBJECTS) == before

    def test_dry_run_prints_it_and_writes_nothing(self, live: App, scratch: Scratch) -> None:
        scratch.sql("DROP TRIGGER pgcleanup_row ON shop_offer")

        code, said = make("--dry-run")

        assert code == 0
        assert 'CREATE OR REPLACE TRIGGER "pgcleanup_row" AFTER UPDATE ON "public"."shop_offer"' in said
        assert sorted(path.name for path in (live.folder / "migrations").glob("0*")) == ["0001_initial.py"]


class TestRefused:
    """What cannot be written."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere"], "there is no app 'nowhere' in INSTALLED_APPS"),
            (["shop", "--name", "no name"], "--name 'no name' is no Python identifier"),
        ],
    )
    def test_wrong_usage_ends_with_2(self, live: App, scratch: Scratch, arguments: list[str], message: str) -> None:
        with pytest.raises(CommandError, match=message) as caught:
            call_command("pgcleanup", "makemigration", *arguments, database="scratch")

        assert caught.value.returncode == 2

    def test_app_without_migrations_ends_with_1(self, shop: App, scratch: Scratch) -> None:
        code, said = make("--all")

        assert code == 1
        assert "app 'shop' has no migrations. Run: manage.py makemigrations shop" in said

    def test_database_that_is_behind_its_migrations_ends_with_1(self, live: App, scratch: Scratch) -> None:
        live.migration("0002_change", RENAME)

        code, said = make("--all")

        assert code == 1
        assert "has migrations to be applied first, shop.0002_change among them" in said
        assert "Run: manage.py migrate --database scratch" in said


def test_nothing_but_the_column_table_is_written_by_a_migrate(live: App, scratch: Scratch) -> None:
    before = scratch.sql(OBJECTS)
    live.models(MODELS + '    third = models.FileField(default="")\n')
    live.migration("0002_change", 'migrations.AddField("Offer", "third", models.FileField(default="")),')

    live.migrate()

    found = inspect("scratch")
    assert found is not None
    assert found.columns_current
    assert scratch.sql(OBJECTS) == before
    assert check() == (1, "public.shop_offer: trigger outdated\n")
