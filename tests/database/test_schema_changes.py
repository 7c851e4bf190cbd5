"""Schema changes while live: no migration and no write fails because of us, and names that go meanwhile are recorded.

Each is a real `migrate` of an app of the project's own, with data migrations before and after the change in the same
run, by a database that already has our triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings

from tests.database.apps import CREATE, MODELS, NAMES, App
from tests.database.conftest import scratch_from
from tests.support import Scratch, recorded

# A data migration: the row that has this name gets another one.
LET_GO = """
def let_go(model, field, name):
    def run(apps, schema_editor):
        rows = apps.get_model("shop", model).objects.using(schema_editor.connection.alias).filter(**{field: name})
        assert rows.update(**{field: "new-" + name}) == 1
    return migrations.RunPython(run, migrations.RunPython.noop)
"""


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    yield from scratch_from(live_template, django_db_blocker, media_root)


@dataclass(frozen=True)
class Change:
    """Operations on the app, what its models are then, and where the file column is."""

    operations: str
    models: str = MODELS
    model: str = "Offer"
    field: str = "file"
    table: str = "shop_offer"
    column: str = "file"
    name: str = ""
    between: str = ""

    def all_operations(self) -> str:
        """Return the operations with writes before, between and after them."""
        return (
            f'let_go("Offer", "file", "before.pdf"),\n{self.operations}\n'
            f'let_go("{self.model}", "{self.field}", "after.pdf"),'
        )


TEXT = 'migrations.AlterField("Offer", "file", models.TextField()),\n'
CHANGES = {
    "RenameField": Change(
        'migrations.RenameField("Offer", "file", "scan"),',
        MODELS.replace("file =", "scan ="),
        field="scan",
        column="scan",
    ),
    "RenameField in two steps": Change(
        'migrations.RenameField("Offer", "file", "paper"),\n'
        'let_go("Offer", "paper", "between.pdf"),\n'
        'migrations.RenameField("Offer", "paper", "scan"),',
        MODELS.replace("file =", "scan ="),
        field="scan",
        column="scan",
    ),
    "db_column": Change(
        'migrations.AlterField("Offer", "file", models.FileField(db_column="path")),',
        MODELS.replace('file = models.FileField(upload_to="offers")', 'file = models.FileField(db_column="path")'),
        column="path",
    ),
    "AddField": Change(
        'migrations.AddField("Offer", "third", models.FileField(default="")),',
        MODELS + '    third = models.FileField(default="")\n',
    ),
    "AddField in front of the others": Change(
        'migrations.AddField("Offer", "third", models.FileField(default="")),\n'
        'migrations.RemoveField("Offer", "other"),',
        MODELS.replace("other =", "third ="),
    ),
    "RemoveField of the neighbour": Change(
        'migrations.RemoveField("Offer", "other"),',
        MODELS.replace('    other = models.FileField(upload_to="offers", default="")\n', ""),
    ),
    "RemoveField of a neighbour whose name it takes": Change(
        'migrations.RemoveField("Offer", "other"),\nmigrations.RenameField("Offer", "file", "other"),',
        MODELS.replace('    file = models.FileField(upload_to="offers")\n', ""),
        field="other",
        column="other",
    ),
    "AlterField, longer": Change(
        'migrations.AlterField("Offer", "file", models.FileField(max_length=500)),',
        MODELS.replace('file = models.FileField(upload_to="offers")', "file = models.FileField(max_length=500)"),
    ),
    "AlterField, null and not null": Change(
        'migrations.AlterField("Offer", "file", models.FileField(null=True)),\n'
        'let_go("Offer", "file", "between.pdf"),\n'
        'migrations.AlterField("Offer", "file", models.FileField(default="")),',
    ),
    "AlterField to TextField and back": Change(
        TEXT + 'let_go("Offer", "file", "between.pdf"),\nmigrations.AlterField("Offer", "file", models.FileField()),',
    ),
    "AlterField to another type": Change(
        'migrations.AlterField("Offer", "file", models.FileField(max_length=None)),',
        MODELS.replace('file = models.FileField(upload_to="offers")', "file = models.FileField(max_length=None)"),
    ),
    "AlterField with an index": Change(
        'migrations.AlterField("Offer", "file", models.FileField(db_index=True)),',
        MODELS.replace('file = models.FileField(upload_to="offers")', "file = models.FileField(db_index=True)"),
    ),
    "RenameModel": Change(
        'migrations.RenameModel("Offer", "Bid"),', MODELS.replace("Offer", "Bid"), model="Bid", table="shop_bid"
    ),
    "RenameModel and RenameField": Change(
        'migrations.RenameModel("Offer", "Bid"),\nmigrations.RenameField("Bid", "file", "scan"),',
        MODELS.replace("Offer", "Bid").replace("file =", "scan ="),
        model="Bid",
        field="scan",
        table="shop_bid",
        column="scan",
    ),
    "AlterModelTable": Change(
        'migrations.AlterModelTable("Offer", "bargains"),',
        MODELS + '    class Meta:\n        db_table = "bargains"\n',
        table="bargains",
    ),
    "another primary key": Change(
        'migrations.AlterField("Offer", "id", models.CharField(max_length=20, primary_key=True)),',
        MODELS + "    id = models.CharField(max_length=20, primary_key=True)\n",
    ),
    "RunSQL that renames the column": Change(
        'migrations.RunSQL("ALTER TABLE shop_offer RENAME file TO scan", migrations.RunSQL.noop, '
        'state_operations=[migrations.RenameField("Offer", "file", "scan")]),',
        MODELS.replace("file =", "scan ="),
        field="scan",
        column="scan",
    ),
    "RunSQL that renames the table": Change(
        'migrations.RunSQL("ALTER TABLE shop_offer RENAME TO bargains", migrations.RunSQL.noop, '
        'state_operations=[migrations.AlterModelTable("Offer", "bargains")]),',
        MODELS + '    class Meta:\n        db_table = "bargains"\n',
        table="bargains",
    ),
    "RunSQL that retypes the column": Change(
        'migrations.RunSQL("ALTER TABLE shop_offer ALTER file TYPE text", migrations.RunSQL.noop),',
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_names_that_go_before_and_after_it_and_later_are_recorded_under_the_new_label(
    live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str], change: Change
) -> None:
    live.models(change.models)
    live.migration("0002_change", change.all_operations(), before=LET_GO)

    live.migrate()

    scratch.sql(f"DELETE FROM {change.table} WHERE {change.column} = 'later.pdf'")
    source = f"shop.{change.model.lower()}.{change.field}"
    mine = {name: at for at, name, _ in recorded("scratch") if name in NAMES}
    assert capsys.readouterr().err == ""
    assert mine.items() >= dict.fromkeys(["pending.pdf", "before.pdf", "after.pdf", "later.pdf"], source).items()
    assert ("between.pdf" in mine) == ("between.pdf" in change.operations)


def test_migration_that_is_not_atomic_is_covered_as_well(live: App, scratch: Scratch) -> None:
    change = CHANGES["RenameModel and RenameField"]
    live.models(change.models)
    live.migration("0002_change", change.all_operations(), before=LET_GO, attributes="atomic = False")

    live.migrate()

    assert {(source, name) for source, name, _ in recorded("scratch")} == {
        ("shop.bid.scan", name) for name in ("pending.pdf", "before.pdf", "after.pdf")
    }


def test_column_that_was_added_is_recorded_once_the_migrate_is_over(live: App, scratch: Scratch) -> None:
    change = CHANGES["AddField"]
    live.models(change.models)
    live.migration("0002_change", change.operations)
    live.migrate()
    scratch.sql("UPDATE shop_offer SET third = 'third.pdf' WHERE file = 'later.pdf'")

    scratch.sql("UPDATE shop_offer SET third = '' WHERE file = 'later.pdf'")

    assert ("shop.offer.third", "third.pdf", "UPDATE") in recorded("scratch")


def test_fields_that_take_each_others_place_in_a_row_take_their_entries_along(live: App, scratch: Scratch) -> None:
    scratch.sql("UPDATE shop_offer SET other = '' WHERE other = 'other-pending.pdf'")
    live.models(MODELS.replace("other =", "last =").replace("file =", "other ="))
    live.migration(
        "0002_change",
        'migrations.RenameField("Offer", "other", "last"),\nmigrations.RenameField("Offer", "file", "other"),',
    )

    live.migrate()

    assert recorded("scratch") == [
        ("shop.offer.last", "other-pending.pdf", "UPDATE"),
        ("shop.offer.other", "pending.pdf", "UPDATE"),
    ]


def test_text_field_is_recorded_no_more_until_it_is_a_file_field_again(live: App, scratch: Scratch) -> None:
    live.models(MODELS.replace('file = models.FileField(upload_to="offers")', "file = models.TextField()"))
    live.migration("0002_text", TEXT)
    live.migrate()
    scratch.sql("UPDATE shop_offer SET file = '' WHERE file = 'between.pdf'")
    live.models(MODELS)
    live.migration("0003_file", 'migrations.AlterField("Offer", "file", models.FileField()),')

    live.migrate()

    scratch.sql("UPDATE shop_offer SET file = '' WHERE file = 'later.pdf'")
    assert [name for _, name, _ in recorded("scratch")] == ["later.pdf", "pending.pdf"]


def test_squashed_migration_takes_the_place_of_those_that_were_applied(live: App, scratch: Scratch) -> None:
    live.models(CHANGES["RenameField"].models)
    live.migration("0002_change", CHANGES["RenameField"].operations)
    live.migrate()
    live.migration(
        "0001_squashed_0002",
        CREATE.replace('"file"', '"scan"'),
        attributes='replaces = [("shop", "0001_initial"), ("shop", "0002_change")]',
        first=True,
    )

    live.migrate()

    scratch.sql("UPDATE shop_offer SET scan = '' WHERE scan = 'later.pdf'")
    assert [(source, name) for source, name, _ in recorded("scratch")] == [
        ("shop.offer.scan", "later.pdf"),
        ("shop.offer.scan", "pending.pdf"),
    ]


def test_faked_migration_changes_nothing_that_is_recorded(live: App, scratch: Scratch) -> None:
    live.models(CHANGES["RenameField"].models)
    live.migration("0002_change", CHANGES["RenameField"].operations)
    scratch.sql("ALTER TABLE shop_offer RENAME file TO scan")

    live.migrate("0002_change", "--fake")

    scratch.sql("UPDATE shop_offer SET scan = '' WHERE scan = 'later.pdf'")
    assert [(source, name) for source, name, _ in recorded("scratch")] == [
        ("shop.offer.scan", "later.pdf"),
        ("shop.offer.scan", "pending.pdf"),
    ]


def test_migration_that_is_taken_back_under_newer_models_leaves_writes_alone(live: App, scratch: Scratch) -> None:
    live.models(CHANGES["RenameField"].models)
    live.migration("0002_change", CHANGES["RenameField"].operations)
    live.migrate()

    live.migrate("0001_initial")

    # The code is ahead of its database: nothing is recorded for a column that no model names. No write fails.
    scratch.sql("UPDATE shop_offer SET file = '', other = '' WHERE file = 'later.pdf'")
    assert ("shop.offer.other", "other-later.pdf", "UPDATE") in recorded("scratch")


def test_migration_that_is_taken_back_with_its_code_takes_the_entries_back(live: App, scratch: Scratch) -> None:
    live.models(CHANGES["RenameField"].models)
    live.migration("0002_change", CHANGES["RenameField"].operations)
    live.migrate()
    live.models(MODELS)

    live.migrate("0001_initial")

    scratch.sql("UPDATE shop_offer SET file = '' WHERE file = 'later.pdf'")
    assert [(source, name) for source, name, _ in recorded("scratch")] == [
        ("shop.offer.file", "later.pdf"),
        ("shop.offer.file", "pending.pdf"),
    ]


def test_migrate_of_nothing_but_new_triggers_follows_a_migrate_under_newer_models(live: App, scratch: Scratch) -> None:
    live.models(CHANGES["RenameField"].models)
    live.migrate()
    live.migration("0002_change", CHANGES["RenameField"].all_operations(), before=LET_GO)

    live.migrate()

    scratch.sql("DELETE FROM shop_offer WHERE scan = 'later.pdf'")
    assert ("shop.offer.scan", "later.pdf", "DELETE") in recorded("scratch")


def test_app_without_migrations_is_recorded_after_run_syncdb(shop: App, scratch: Scratch) -> None:
    shop.models(MODELS.replace("Offer", "Bid"))
    (shop.folder / "migrations" / "__init__.py").unlink()
    (shop.folder / "migrations").rmdir()

    shop.migrate("--run-syncdb")

    scratch.sql("INSERT INTO shop_bid (file, other) VALUES ('a.pdf', ''); DELETE FROM shop_bid")
    assert ("shop.bid.file", "a.pdf", "DELETE") in recorded("scratch")


def test_app_whose_migrations_are_switched_off_is_recorded_after_run_syncdb(shop: App, scratch: Scratch) -> None:
    shop.models(MODELS.replace("Offer", "Bid"))
    shop.migration("0001_initial", 'migrations.RunSQL("SELECT nonsense"),')

    with override_settings(MIGRATION_MODULES={"shop": None}):
        shop.migrate("--run-syncdb")

    scratch.sql("INSERT INTO shop_bid (file, other) VALUES ('a.pdf', ''); DELETE FROM shop_bid")
    assert ("shop.bid.file", "a.pdf", "DELETE") in recorded("scratch")


def test_own_migrations_can_be_switched_off(empty_scratch: Scratch) -> None:
    with override_settings(MIGRATION_MODULES={"pgcleanup": None}):
        call_command("migrate", database="scratch", verbosity=0, run_syncdb=True)

    empty_scratch.sql("INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf'); DELETE FROM thirdparty_brochure")
    assert recorded("scratch") == [("thirdparty.brochure.file", "a.pdf", "DELETE")]


TAKEN_OVER = {
    "another field": (
        'migrations.RenameField("Offer", "file", "scan"),\n'
        'migrations.AddField("Offer", "file", models.FileField(default="")),',
        MODELS + '    scan = models.FileField(default="")\n',
        {"pending.pdf": "shop.offer.scan", "other-later.pdf": "shop.offer.other"},
    ),
    "the field that it swapped with": (
        'migrations.RenameField("Offer", "file", "scan"),\n'
        'migrations.RenameField("Offer", "other", "file"),\n'
        'migrations.RenameField("Offer", "scan", "other"),',
        MODELS,
        {"pending.pdf": "shop.offer.other", "other-later.pdf": "shop.offer.file"},
    ),
}


@pytest.mark.parametrize(("operations", "models", "expected"), TAKEN_OVER.values(), ids=TAKEN_OVER)
def test_entries_follow_a_field_whose_name_was_taken_over_by(
    operations: str, models: str, expected: dict[str, str], live: App, scratch: Scratch
) -> None:
    scratch.sql("UPDATE shop_offer SET other = '' WHERE file = 'later.pdf'")
    live.models(models)
    live.migration("0002_change", operations)

    live.migrate()

    assert {name: source for source, name, _ in recorded("scratch")} == expected


NEW = {
    "AddField": ('migrations.AddField("Offer", "third", models.FileField(default="")),', ["shop.offer.third"]),
    "CreateModel": (
        'migrations.CreateModel("Bid", [("id", models.BigAutoField(primary_key=True)), ("scan", models.FileField())]),',
        ["shop.bid.scan"],
    ),
    "AlterField of a text field": (
        'migrations.AddField("Offer", "third", models.TextField(default="")),\n'
        'migrations.AlterField("Offer", "third", models.FileField(default="")),',
        ["shop.offer.third"],
    ),
    "AddField and RenameField": (
        'migrations.AddField("Offer", "third", models.FileField(default="")),\n'
        'migrations.RenameField("Offer", "third", "fourth"),',
        ["shop.offer.third"],
    ),
    "RenameField": ('migrations.RenameField("Offer", "file", "scan"),', []),
    "AddField of a text field": ('migrations.AddField("Offer", "third", models.TextField(default="")),', []),
}
NOTED = "SELECT source, attnum > 0 FROM file_deletion_column WHERE source LIKE 'shop.%' ORDER BY source"
FAILS = 'migrations.RunSQL("SELECT 1/0"),'


@pytest.mark.parametrize(("operations", "new"), NEW.values(), ids=NEW)
def test_new_file_column_is_noted_in_the_transaction_that_makes_it(
    operations: str, new: list[str], live: App, scratch: Scratch
) -> None:
    live.migration("0002_change", operations)
    live.migration("0003_fails", FAILS)

    with pytest.raises(Exception, match="division by zero"):
        live.migrate()

    assert scratch.sql(NOTED) == [(source, True) for source in sorted(["shop.offer.file", "shop.offer.other", *new])]


def test_field_that_moves_to_another_storage_is_noted_in_that_transaction(live: App, scratch: Scratch) -> None:
    key = "SELECT storage_key FROM file_deletion_column WHERE source = 'shop.offer.file'"
    before = scratch.sql(key)
    live.migration(
        "0002_change",
        'migrations.AlterField("Offer", "file", models.FileField(storage=archive_storage)),',
        before="from tests.project.models import archive_storage",
    )
    live.migration("0003_fails", FAILS)

    with pytest.raises(Exception, match="division by zero"):
        live.migrate()

    assert scratch.sql(key) == scratch.sql(key.replace("shop.offer.file", "project.archive.file"))
    assert scratch.sql(key) != before


def test_new_field_that_takes_the_name_of_a_dropped_one_is_noted(live: App, scratch: Scratch) -> None:
    live.models(MODELS.replace("file =", "scan ="))
    live.migration(
        "0002_change",
        'migrations.RemoveField("Offer", "file"),\nmigrations.AddField("Offer", "scan", models.FileField(default="")),',
    )
    live.migrate()
    live.migration("0003_again", 'migrations.AddField("Offer", "file", models.FileField(default="")),')
    live.migration("0004_fails", FAILS)

    with pytest.raises(Exception, match="division by zero"):
        live.migrate()

    assert ("shop.offer.file", True) in scratch.sql(NOTED)


def test_migration_whose_new_column_cannot_be_noted_goes_on(
    live: App, scratch: Scratch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch.sql("ALTER TABLE file_deletion_column RENAME storage_key TO oops")
    live.migration("0002_change", NEW["AddField"][0])

    live.migrate()

    assert scratch.sql("SELECT count(third) FROM shop_offer") == [(5,)]
    assert "pgcleanup: the new file column shop.offer.third could not be noted: " in capsys.readouterr().err


def test_failing_migration_leaves_everything_as_it_was(live: App, scratch: Scratch) -> None:
    live.migration(
        "0002_change",
        CHANGES["RenameField"].all_operations() + '\nmigrations.RunSQL("SELECT 1/0"),',
        before=LET_GO,
    )

    with pytest.raises(Exception, match="division by zero"):
        live.migrate()

    scratch.sql("UPDATE shop_offer SET file = '' WHERE file = 'before.pdf'")
    assert [name for _, name, _ in recorded("scratch")] == ["before.pdf", "pending.pdf"]
