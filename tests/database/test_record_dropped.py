"""A migration drops a column, and with it the only record of its names: they are recorded before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from pytest_django import Settings

from pgcleanup.cleanup import ignore
from pgcleanup.drain import DrainReport, drain
from pgcleanup.models import Outcome
from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete
from pgcleanup.triggers import sync
from pgcleanup.triggers.drops import end_watch, watch_drops
from tests.database.apps import MODELS, NAMES, App
from tests.database.conftest import scratch_from
from tests.drain.support import put
from tests.support import Scratch, history, ledger, recorded, until

WITHOUT_FILE = MODELS.replace('    file = models.FileField(upload_to="offers")\n', "")
REMOVE_FILE = 'migrations.RemoveField("Offer", "file"),'
DELETE_OFFER = 'migrations.DeleteModel("Offer"),'
WRITE = """
def write(name, field="file"):
    def run(apps, schema_editor):
        apps.get_model("shop", "Offer").objects.using(schema_editor.connection.alias).create(**{field: name})
    return migrations.RunPython(run, migrations.RunPython.noop)
"""
FILES = ["after.pdf", "before.pdf", "between.pdf", "later.pdf", "new-pending.pdf"]
OTHERS = [f"other-{name}" for name in NAMES]


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path, settings: Settings) -> Iterator[Scratch]:
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    yield from scratch_from(live_template, django_db_blocker, media_root)


def dropped(source: str = "shop.offer.file") -> list[str]:
    """Return the names that were recorded of a column because it went."""
    return [name for at, name, operation in recorded("scratch") if operation == "DROP" and at == source]


def sources() -> set[str]:
    return {entry.source for entry in ledger("scratch") if entry.operation == "DROP"}


def take_file_away(live: App) -> None:
    """Release models without the file field."""
    live.models(WITHOUT_FILE)
    live.migration("0002_change", REMOVE_FILE)
    live.migrate()


def bring_file_back(live: App) -> None:
    """Release models with one of that name."""
    live.models(MODELS)
    live.migration("0003_back", 'migrations.AddField("Offer", "file", models.FileField(default="")),')
    live.migrate()


def drained() -> DrainReport:
    return drain(using="scratch")


class TestRecorded:
    """What is written, and in which transaction."""

    def test_removed_field_has_every_name_recorded_with_its_row(self, live: App, scratch: Scratch) -> None:
        keys = {name: str(key) for key, name in scratch.sql("SELECT id, file FROM shop_offer")}
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate()

        entries = [entry for entry in ledger("scratch") if entry.operation == "DROP"]
        assert {(entry.source, entry.name, entry.object_pk) for entry in entries} == {
            ("shop.offer.file", name, keys[name]) for name in FILES
        }

    def test_drop_that_waits_for_a_writer_lets_it_go_on_and_records_what_it_wrote(
        self, live: App, scratch: Scratch
    ) -> None:
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        def migrate() -> None:
            live.migrate()
            connections["scratch"].close()

        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'shop_offer'::regclass AND NOT granted)"
        with scratch.session(autocommit=False) as writer, ThreadPoolExecutor() as pool:
            writer.execute("UPDATE shop_offer SET file = 'early.pdf' WHERE file = 'before.pdf'")
            migrating = pool.submit(migrate)
            until(lambda: scratch.sql(waits) == [(True,)])
            writer.execute("UPDATE shop_offer SET file = 'late.pdf' WHERE file = 'early.pdf'")
            # Whoever holds a weaker lock by now waits for the writer, which would wait for it.
            writer.execute("LOCK TABLE shop_offer IN ACCESS EXCLUSIVE MODE")
            writer.commit()
            migrating.result()

        assert "late.pdf" in dropped()

    def test_deleted_model_has_the_names_of_all_its_fields_recorded(self, live: App, scratch: Scratch) -> None:
        live.models("")
        live.migration("0002_change", DELETE_OFFER)

        live.migrate()

        assert dropped() == FILES
        assert len(dropped("shop.offer.other")) == 5

    def test_field_that_is_no_file_field_any_more_keeps_its_names_and_has_none_recorded(
        self, live: App, scratch: Scratch
    ) -> None:
        live.models(WITHOUT_FILE + "    file = models.TextField()\n")
        live.migration("0002_change", 'migrations.AlterField("Offer", "file", models.TextField()),')

        live.migrate()

        assert sources() == set()

    @pytest.mark.parametrize("attributes", ["atomic = True", "atomic = False"])
    def test_names_that_the_migration_itself_wrote_are_recorded(
        self, live: App, scratch: Scratch, attributes: str
    ) -> None:
        live.models(WITHOUT_FILE)
        live.migration("0002_change", f'write("new.pdf"),\n{REMOVE_FILE}', before=WRITE, attributes=attributes)

        live.migrate()

        assert dropped() == [*FILES, "new.pdf"]

    def test_migration_that_is_rolled_back_records_nothing(self, live: App, scratch: Scratch) -> None:
        live.migration("0002_change", f'{REMOVE_FILE}\nmigrations.RunSQL("SELECT 1/0"),')

        with pytest.raises(Exception, match="division by zero"):
            live.migrate()

        assert sources() == set()

    def test_faked_migration_records_nothing(self, live: App, scratch: Scratch) -> None:
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate("0002_change", "--fake")

        assert sources() == set()

    def test_field_whose_addition_is_taken_back_has_its_names_recorded(self, live: App, scratch: Scratch) -> None:
        live.models(MODELS + '    third = models.FileField(default="")\n')
        live.migration("0002_change", 'migrations.AddField("Offer", "third", models.FileField(default="")),')
        live.migrate()
        scratch.sql("UPDATE shop_offer SET third = 'third.pdf' WHERE file = 'later.pdf'")
        live.models(MODELS)

        live.migrate("0001_initial")

        assert dropped("shop.offer.third") == ["third.pdf"]

    def test_model_whose_creation_is_taken_back_has_its_names_recorded(self, live: App, scratch: Scratch) -> None:
        live.models("")

        live.migrate("zero")

        assert dropped() == FILES

    def test_name_is_recorded_under_the_label_that_the_database_knows(self, live: App, scratch: Scratch) -> None:
        live.models(WITHOUT_FILE.replace("Offer", "Bid"))
        live.migration(
            "0002_change",
            'migrations.RenameField("Offer", "file", "scan"),\nmigrations.RenameModel("Offer", "Bid"),\n'
            'migrations.RemoveField("Bid", "scan"),',
        )

        live.migrate()

        assert sources() == {"shop.offer.file"}

    def test_primary_key_of_several_columns_is_recorded_as_everywhere(self, live: App, scratch: Scratch) -> None:
        page = 'models.CompositePrimaryKey("book", "number")'
        columns = 'models.CharField(max_length=9)), ("number", models.IntegerField()), ("scan", models.FileField())'
        live.migration(
            "0002_page", f'migrations.CreateModel("Page", [("pk", {page}), ("book", {columns}], options={{}}),'
        )
        live.migrate()
        scratch.sql("INSERT INTO shop_page (book, number, scan) VALUES ('x', 7, 'x7.pdf')")
        live.migration("0003_change", 'migrations.DeleteModel("Page"),')

        live.migrate()

        assert [entry.object_pk for entry in ledger("scratch") if entry.name == "x7.pdf"] == ['["x", "7"]']

    def test_sql_that_is_only_printed_records_nothing(self, live: App, scratch: Scratch) -> None:
        live.migration("0002_change", REMOVE_FILE)
        watch_drops("scratch")

        call_command("sqlmigrate", "shop", "0002_change", database="scratch", stdout=StringIO())

        assert end_watch("scratch") == {}
        assert sources() == set()

    def test_schema_editor_is_the_connections_own_again_after_the_migrate(self, live: App, scratch: Scratch) -> None:
        before = connections["scratch"].SchemaEditorClass
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate()

        assert connections["scratch"].SchemaEditorClass is before
        assert "SchemaEditorClass" not in vars(connections["scratch"])


class TestLeftOut:
    """What is dropped and not recorded."""

    @pytest.fixture
    def removal(self, live: App) -> App:
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)
        return live

    def test_nothing_is_recorded_where_the_setting_says_so(self, removal: App, settings: Settings) -> None:
        settings.PGCLEANUP_RECORD_DROPPED = False

        removal.migrate()

        assert sources() == set()

    @pytest.mark.parametrize(
        ("setting", "label"),
        [("PGCLEANUP_EXCLUDE", "shop.Offer"), ("PGCLEANUP_IGNORE_REFERENCES", "shop.Offer.file")],
    )
    def test_names_of_an_excluded_field_are_not_recorded(
        self, removal: App, settings: Settings, setting: str, label: str
    ) -> None:
        setattr(settings, setting, [label])

        removal.migrate()

        assert sources() == set()

    def test_names_of_a_model_with_the_ignore_decorator_are_not_recorded(self, removal: App) -> None:
        from django.apps import apps

        ignore(apps.get_model("shop", "Offer"))

        removal.migrate()

        assert sources() == set()

    def test_names_of_a_model_that_was_never_selected_are_not_recorded(
        self, live: App, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        sync("scratch")
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate()

        assert sources() == set()

    def test_names_of_a_model_that_was_selected_and_is_gone_are_recorded(
        self, live: App, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        live.models("")
        live.migration("0002_change", DELETE_OFFER)

        live.migrate()

        assert dropped() == FILES

    def test_default_of_the_field_is_not_recorded_and_stays_where_it_waits(self, live: App, scratch: Scratch) -> None:
        scratch.sql("UPDATE shop_offer SET other = 'default.pdf'")
        scratch.sql("UPDATE shop_offer SET other = 'x.pdf' WHERE file = 'later.pdf'")
        live.models(MODELS.replace('    other = models.FileField(upload_to="offers", default="")\n', ""))
        live.migration(
            "0002_change",
            'migrations.AlterField("Offer", "other", models.FileField(default="default.pdf")),\n'
            'migrations.RemoveField("Offer", "other"),',
        )

        live.migrate()

        assert dropped("shop.offer.other") == ["x.pdf"]
        assert {entry.name: entry.keep for entry in ledger("scratch")} == {
            **{entry.name: False for entry in ledger("scratch")},
            "default.pdf": True,
        }


class TestFailing:
    """Whatever goes wrong, the migration goes through, and somebody is told."""

    def test_migration_goes_on_with_a_word_where_the_ledger_cannot_be_written(
        self, live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scratch.sql("ALTER TABLE pending_file_deletion ADD CHECK (operation <> 'DROP')")
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate()

        assert scratch.sql(
            "SELECT count(*) FROM pg_attribute WHERE attname = 'file' AND attrelid = 'shop_offer'::regclass"
        ) == [(0,)]
        assert (
            "pgcleanup: shop.offer.file is dropped, and its file names could not be recorded, so those files stay: "
            "IntegrityError: new row for relation"
        ) in capsys.readouterr().err

    def test_bad_setting_does_not_stop_it(
        self, live: App, scratch: Scratch, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.PGCLEANUP_RECORD_DROPPED = "yes"
        live.models(WITHOUT_FILE)
        live.migration("0002_change", REMOVE_FILE)

        live.migrate()

        assert "could not be recorded, so those files stay: ImproperlyConfigured" in capsys.readouterr().err

    def test_default_that_fails_does_not_stop_it(
        self, live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        live.models(WITHOUT_FILE)
        live.migration(
            "0002_change",
            f'migrations.AlterField("Offer", "file", models.FileField(default=no_default)),\n{REMOVE_FILE}',
            before="def no_default():\n    raise LookupError('no default')\n",
        )

        live.migrate()

        assert "could not be recorded, so those files stay: LookupError: no default" in capsys.readouterr().err

    def test_database_without_a_ledger_is_migrated_without_a_word(
        self, live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("pgcleanup", "uninstall", "--discard-pending", database="scratch", verbosity=0)
        live.models(WITHOUT_FILE)
        live.migration("0002_change", f'{REMOVE_FILE}\nmigrations.RunSQL("DROP TABLE pending_file_deletion"),')

        live.migrate()

        assert "shop.offer" not in capsys.readouterr().err

    def test_rows_that_a_policy_may_hide_are_said_to_be_missed(
        self, live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scratch.sql("CREATE ROLE migrator; GRANT ALL ON SCHEMA public TO migrator")
        scratch.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO migrator")
        scratch.sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO migrator")
        try:
            for table in ("shop_offer", "django_migrations", "pending_file_deletion", "file_deletion_column"):
                scratch.sql(f"ALTER TABLE {table} OWNER TO migrator")
            scratch.sql("ALTER TABLE shop_offer ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            live.models(WITHOUT_FILE)
            live.migration("0002_change", REMOVE_FILE)
            scratch.sql("SET SESSION AUTHORIZATION migrator")

            live.migrate()

            assert "row level security may hide rows" in capsys.readouterr().err
        finally:
            scratch.sql("RESET SESSION AUTHORIZATION; DROP OWNED BY migrator CASCADE; DROP ROLE migrator")

    @pytest.mark.parametrize(
        ("statement", "operation", "models"),
        [
            ("ALTER TABLE shop_offer DROP file", REMOVE_FILE, WITHOUT_FILE),
            ("DROP TABLE shop_offer", DELETE_OFFER, ""),
        ],
        ids=["column", "table"],
    )
    def test_drop_by_sql_is_named_since_nothing_could_be_recorded(
        self,
        live: App,
        scratch: Scratch,
        capsys: pytest.CaptureFixture[str],
        statement: str,
        operation: str,
        models: str,
    ) -> None:
        live.models(models)
        live.migration("0002_change", f'migrations.RunSQL("{statement}", state_operations=[{operation}]),')

        live.migrate()

        assert (
            "pgcleanup: the column of shop.offer.file was dropped by other means than a migration's RemoveField or "
            "DeleteModel, so its file names are not recorded, and those files stay."
        ) in capsys.readouterr().err


class TestDrained:
    """What becomes of the files."""

    @pytest.fixture(autouse=True)
    def only_database(self, live: App, scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tell the database where this test has its files, and let the project have no other one to be asked."""
        sync("scratch")
        for alias in ("default", "other"):
            monkeypatch.delitem(connections.databases, alias)

    @pytest.fixture
    def files(self) -> dict[str, Path]:
        return {name: put(name) for name in [*FILES, "pending.pdf", *OTHERS]}

    def test_files_of_a_removed_field_are_deleted_and_those_of_others_stay(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        take_file_away(live)

        report = drained()

        assert report.exit_code == 0
        assert report.counts == {Outcome.DELETED: 6}
        assert [name for name, path in files.items() if path.exists()] == OTHERS
        assert {entry.operation for entry in history("scratch")} == {"DROP", "UPDATE"}

    def test_files_of_a_deleted_model_are_deleted(self, live: App, scratch: Scratch, files: dict[str, Path]) -> None:
        live.models("")
        live.migration("0002_change", DELETE_OFFER)
        live.migrate()

        drained()

        assert [name for name, path in files.items() if path.exists()] == []

    def test_file_that_another_column_still_names_is_kept(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        scratch.sql("UPDATE shop_offer SET other = file WHERE file = 'later.pdf'")
        take_file_away(live)

        drained()

        assert files["later.pdf"].exists()
        assert {entry.name: entry.reason for entry in history("scratch") if entry.outcome == "kept"} == {
            "later.pdf": "shop.offer.other"
        }

    def test_file_of_a_column_that_came_and_went_in_one_migrate_is_deleted(self, live: App, scratch: Scratch) -> None:
        path = put("third.pdf")
        live.migration(
            "0002_change",
            'migrations.AddField("Offer", "third", models.FileField(default="")),\n'
            'write("third.pdf", "third"),\nmigrations.RemoveField("Offer", "third"),',
            before=WRITE,
        )
        live.migrate()

        drained()

        assert not path.exists()

    def test_file_in_a_storage_that_only_the_settings_have_is_deleted(
        self, live: App, scratch: Scratch, settings: Settings, tmp_path: Path
    ) -> None:
        backend = "django.core.files.storage.FileSystemStorage"
        alone = {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "alone")}}
        settings.STORAGES = {**settings.STORAGES, "alone": alone, "broken": {"BACKEND": "there.is.no.Such"}}
        path = put("a.pdf", root=tmp_path / "alone")
        scan = '    scan = models.FileField(storage=storages["alone"], default="")\n'
        live.models(f"from django.core.files.storage import storages\n{MODELS}{scan}")
        live.migration("0002_scan", 'migrations.AddField("Offer", "scan", models.FileField(default="")),')
        live.migrate()
        scratch.sql("UPDATE shop_offer SET scan = 'a.pdf' WHERE file = 'later.pdf'")
        live.models(MODELS)
        live.migration("0003_change", 'migrations.RemoveField("Offer", "scan"),')
        live.migrate()

        drained()

        assert not path.exists()

    def test_name_in_a_storage_that_nobody_has_any_more_is_left_alone_and_said_so(
        self, live: App, scratch: Scratch, settings: Settings, tmp_path: Path
    ) -> None:
        take_file_away(live)
        scratch.sql("UPDATE file_deletion_column SET storage_key = 'gone' WHERE source = 'shop.offer.file'")

        report = drained()

        assert report.unresolved == ("shop.offer.file",)
        assert len(dropped()) == 5

    def test_files_of_an_app_that_was_taken_out_stay_while_its_rows_are_there(
        self, live: App, scratch: Scratch, files: dict[str, Path], settings: Settings
    ) -> None:
        scratch.sql("UPDATE shop_offer SET other = 'pending.pdf'")
        with override_settings(INSTALLED_APPS=[app for app in settings.INSTALLED_APPS if app != "shop"]):
            sync("scratch")

            report = drained()

        assert report.unresolved == ("shop.offer.file", "shop.offer.other")
        assert all(path.exists() for path in files.values())

    def test_no_signal_is_sent_since_there_is_no_model_to_send_it_for(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        heard: list[Any] = []
        take_file_away(live)
        for signal in (cleanup_pre_delete, cleanup_post_delete):
            signal.connect(lambda **kwargs: heard.append(kwargs), weak=False, dispatch_uid="test")

        try:
            report = drained()
        finally:
            for signal in (cleanup_pre_delete, cleanup_post_delete):
                signal.disconnect(dispatch_uid="test")

        assert report.counts == {Outcome.DELETED: 6}
        assert heard == []

    def test_entry_that_a_long_transaction_commits_under_an_old_label_is_drained(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        live.models(MODELS.replace("file =", "scan ="))
        live.migration("0002_change", 'migrations.RenameField("Offer", "file", "scan"),')
        live.migrate()
        scratch.sql("UPDATE shop_offer SET scan = '' WHERE scan = 'later.pdf'")
        scratch.sql("UPDATE pending_file_deletion SET source = 'shop.offer.file'")

        report = drained()

        assert report.counts == {Outcome.DELETED: 2}

    def test_note_of_a_dropped_column_goes_when_its_entries_have_gone(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        take_file_away(live)
        noted = scratch.sql("SELECT table_name, attnum FROM file_deletion_column WHERE source = 'shop.offer.file'")
        drained()
        live.models("")

        live.migrate()

        assert noted == [(None, 0)]
        assert scratch.sql("SELECT source FROM file_deletion_column WHERE source = 'shop.offer.file'") == []

    def test_field_that_comes_back_has_its_entries_again(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        take_file_away(live)
        bring_file_back(live)
        scratch.sql("UPDATE shop_offer SET file = 'later.pdf' WHERE other = 'other-later.pdf'")

        drained()

        assert [name for name in FILES if files[name].exists()] == ["later.pdf"]


def test_migrate_says_how_many_names_it_recorded_and_what_becomes_of_the_files(
    live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
) -> None:
    live.models(WITHOUT_FILE)
    live.migration("0002_change", REMOVE_FILE)

    live.migrate(verbosity=1)

    assert (
        "pgcleanup: shop.offer.file was dropped; its 5 file names are recorded, and files that nothing else names will "
        "be deleted.\n"
    ) in capsys.readouterr().out


def test_second_migrate_after_a_drop_changes_nothing(
    live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
) -> None:
    live.models(WITHOUT_FILE)
    live.migration("0002_change", REMOVE_FILE)
    live.migrate()

    report = sync("scratch")

    assert report is not None
    assert (report.changed, report.dropped) == ([], [])
    assert capsys.readouterr().err == ""


class TestLabelIsTaken:
    """Another column, whose files are in another storage, has the label of a dropped one."""

    PRIVATE = "from django.core.files.storage import storages\n"
    OFFERS = """
class Offer(models.Model):
    file = models.FileField(upload_to="offers"{storage})
"""

    @pytest.fixture
    def alone(self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "alone"
        backend = "django.core.files.storage.FileSystemStorage"
        settings.STORAGES = {**settings.STORAGES, "alone": {"BACKEND": backend, "OPTIONS": {"location": str(folder)}}}
        for alias in ("default", "other"):
            monkeypatch.delitem(connections.databases, alias)
        return folder

    @pytest.fixture
    def files(self, live: App, scratch: Scratch, alone: Path) -> dict[str, Path]:
        """Put the files of `file` into a storage of their own, and beside those of `other` some that no row let go.

        `pending.pdf` was let go by a row that is there no more.
        """
        live.models(
            f"{self.PRIVATE}\n{MODELS}".replace('upload_to="offers")', 'upload_to="offers", storage=storages["alone"])')
        )
        sync("scratch")
        scratch.sql("TRUNCATE pending_file_deletion; DELETE FROM file_deletion_stamp")
        scratch.sql("UPDATE shop_offer SET file = 'last.pdf' WHERE file = 'later.pdf'")
        return {name: put(name, root=alone) for name in [*FILES, "last.pdf"]} | {
            f"unrelated {name}": put(name) for name in FILES
        }

    @pytest.mark.parametrize(
        ("operations", "models"),
        [
            pytest.param(
                'migrations.RemoveField("Offer", "file"),\nmigrations.AddField("Offer", "file", '
                'models.FileField(default="")),',
                MODELS,
                id="a new column",
            ),
            pytest.param(
                'migrations.RemoveField("Offer", "file"),\nmigrations.RenameField("Offer", "other", "file"),',
                OFFERS.format(storage=""),
                id="a renamed one",
            ),
            pytest.param(
                'migrations.RenameField("Offer", "file", "gone"),\nmigrations.RenameField("Offer", "other", "file"),\n'
                'migrations.RemoveField("Offer", "gone"),',
                OFFERS.format(storage=""),
                id="one that was renamed before it went",
            ),
            pytest.param(
                'migrations.RunSQL("ALTER TABLE shop_offer DROP COLUMN file"),\n'
                "migrations.RunSQL(\"ALTER TABLE shop_offer ADD COLUMN file varchar(100) NOT NULL DEFAULT ''\"),",
                MODELS,
                id="dropped and made in SQL",
            ),
        ],
    )
    def test_names_of_the_dropped_column_keep_to_its_storage(
        self, live: App, scratch: Scratch, files: dict[str, Path], operations: str, models: str
    ) -> None:
        live.models(models)
        live.migration("0002_change", operations)
        live.migrate()

        report = drained()

        assert (report.exit_code, report.unresolved) == (0, ())
        assert [name for name, path in files.items() if "unrelated" in name and not path.exists()] == []
        recorded = {entry.name for entry in history("scratch")}
        assert recorded >= {"later.pdf"}
        assert {entry.outcome for entry in history("scratch")} == {"deleted"}
        assert not any(files[name].exists() for name in recorded)

    def test_names_of_an_earlier_release_keep_to_their_storage(
        self, live: App, scratch: Scratch, files: dict[str, Path]
    ) -> None:
        take_file_away(live)
        bring_file_back(live)
        path = put("new.pdf")
        scratch.sql("UPDATE shop_offer SET file = 'new.pdf'; UPDATE shop_offer SET file = ''")

        report = drained()

        assert report.exit_code == 0
        assert [name for name, path in files.items() if path.exists()] == [f"unrelated {name}" for name in FILES]
        assert {entry.name for entry in history("scratch") if entry.source == "shop.offer.file"} == {"new.pdf"}
        assert not path.exists()

    def test_many_that_wait_hold_no_migration_up(
        self, live: App, scratch: Scratch, files: dict[str, Path], settings: Settings
    ) -> None:
        """Names that were let go since come after those of the dropped column, which left none when it went."""
        settings.PGCLEANUP_RECORD_DROPPED = False
        take_file_away(live)
        scratch.sql(
            "INSERT INTO pending_file_deletion (source, name, operation, transaction_id, db_user, application_name)"
            " SELECT source, concat(source, number), 'UPDATE', 1, '', '' FROM generate_series(1, 20000) AS g(number),"
            " (VALUES (1, 'shop.offer.file'), (2, 'shop.offer.other')) AS v(i, source) ORDER BY i"
        )

        bring_file_back(live)

        moved = scratch.sql("SELECT count(*) FROM pending_file_deletion WHERE source LIKE 'shop.offer.file@%'")
        assert moved[0][0] >= 20_000

    def test_names_of_a_storage_that_nobody_has_any_more_are_left_alone_and_said_so(
        self, live: App, scratch: Scratch, files: dict[str, Path], settings: Settings
    ) -> None:
        live.models(MODELS)
        settings.STORAGES = {name: value for name, value in settings.STORAGES.items() if name != "alone"}
        live.migration(
            "0002_change",
            'migrations.RemoveField("Offer", "file"),\nmigrations.AddField("Offer", "file", '
            'models.FileField(default="")),',
        )
        live.migrate()

        report = drained()

        [source] = report.unresolved
        assert source.startswith("shop.offer.file@")
        assert history("scratch") == []
        assert all(path.exists() for path in files.values())

    def test_column_table_waits_while_a_drain_holds_names_of_the_dropped_column(
        self,
        live: App,
        scratch: Scratch,
        files: dict[str, Path],
        settings: Settings,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=50)
        live.models(MODELS)
        live.migration(
            "0002_change",
            'migrations.RemoveField("Offer", "file"),\nmigrations.AddField("Offer", "file", '
            'models.FileField(default="")),',
        )
        with scratch.session(autocommit=False) as drain_under_way:
            drain_under_way.execute("SELECT FROM pending_file_deletion WHERE source = 'shop.offer.file' FOR UPDATE")
            live.migrate()
            said = capsys.readouterr().err
            refused = drain(using="scratch", dry_run=True)

        sync("scratch")

        assert "pgcleanup: file_deletion_column: canceling statement due to lock timeout" in said
        assert refused.exit_code == 3
        assert "shop.offer.file is in another storage for the database" in refused.refused[0]
        assert drained().exit_code == 0
        assert [name for name, path in files.items() if path.exists()] == [f"unrelated {name}" for name in FILES]
