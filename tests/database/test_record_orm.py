"""Whatever the ORM calls it: a name that a row lets go is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import F, Value
from django.db.models.functions import Concat

from tests.project.models import Attachment, Document, Manual, NamedFile, Page, Place, Restaurant
from tests.support import ledger, recorded, recorded_names
from tests.thirdparty.models import Brochure

pytestmark = pytest.mark.django_db

FILE = "project.document.file"


def run_migration(*operations: migrations.operations.base.Operation) -> None:
    """Apply a migration of the project's app, as `migrate` would, on top of those that it has."""
    loader = MigrationLoader(connection)
    migration = migrations.Migration("9999_of_a_test", "project")
    migration.operations = list(operations)
    with connection.schema_editor() as editor:
        migration.apply(loader.project_state(loader.graph.leaf_nodes()), editor)


def test_save_records_the_name_it_replaces() -> None:
    document = Document.objects.create(file="old.txt")

    document.file = "new.txt"
    document.save()

    assert recorded() == [(FILE, "old.txt", "UPDATE")]


def test_save_of_other_fields_records_nothing() -> None:
    document = Document.objects.create(file="old.txt", title="a")

    document.title = "b"
    document.save()

    assert ledger() == []


def test_save_of_an_emptied_field_records_the_name() -> None:
    document = Document.objects.create(file="old.txt")

    document.file = None
    document.save()

    assert recorded() == [(FILE, "old.txt", "UPDATE")]


def test_delete_of_an_instance_records_every_name_of_its_row() -> None:
    document = Document.objects.create(file="a.txt", thumb="a.png")

    document.delete()

    assert recorded() == [(FILE, "a.txt", "DELETE"), ("project.document.thumb", "a.png", "DELETE")]


def test_delete_records_the_names_of_rows_that_go_with_it_by_cascade() -> None:
    document = Document.objects.create()
    Attachment.objects.create(document=document, file="goes-too.txt")

    document.delete()

    assert recorded() == [("project.attachment.file", "goes-too.txt", "DELETE")]


def test_delete_of_a_child_records_the_names_of_both_its_tables() -> None:
    restaurant = Restaurant.objects.create(photo="place.png", menu="menu.pdf")

    restaurant.delete()

    assert recorded() == [
        ("project.place.photo", "place.png", "DELETE"),
        ("project.restaurant.menu", "menu.pdf", "DELETE"),
    ]


def test_delete_of_a_child_that_keeps_its_parent_records_the_childs_names_alone() -> None:
    restaurant = Restaurant.objects.create(photo="place.png", menu="menu.pdf")

    restaurant.delete(keep_parents=True)

    assert recorded() == [("project.restaurant.menu", "menu.pdf", "DELETE")]


def test_queryset_update_of_an_inherited_field_records_it_for_the_parent() -> None:
    Restaurant.objects.create(photo="place.png", menu="menu.pdf")

    Restaurant.objects.update(photo="other.png")

    assert recorded() == [("project.place.photo", "place.png", "UPDATE")]


def test_queryset_update_records_the_name_of_each_row() -> None:
    Document.objects.bulk_create([Document(file="a.txt"), Document(file="b.txt"), Document(file="same.txt")])

    Document.objects.update(file="same.txt")

    assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "UPDATE")]


def test_queryset_update_by_an_expression_records_the_old_names() -> None:
    Document.objects.create(file="a.txt")

    Document.objects.update(file=Concat(Value("moved/"), F("file")))

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_queryset_delete_records_the_name_of_each_row() -> None:
    Document.objects.bulk_create([Document(file="a.txt"), Document(file="b.txt")])

    Document.objects.all().delete()

    assert recorded() == [(FILE, "a.txt", "DELETE"), (FILE, "b.txt", "DELETE")]


def test_raw_delete_records_the_names() -> None:
    Document.objects.create(file="a.txt")

    Document.objects.all()._raw_delete("default")

    assert recorded() == [(FILE, "a.txt", "DELETE")]


def test_bulk_update_records_the_name_of_each_row_it_changes() -> None:
    first, second = Document.objects.create(file="a.txt"), Document.objects.create(file="b.txt")
    first.file, second.title = "new.txt", "same file"

    Document.objects.bulk_update([first, second], ["file", "title"])

    assert recorded() == [(FILE, "a.txt", "UPDATE")]


def test_bulk_create_that_updates_conflicts_records_the_names_it_replaces() -> None:
    old = Document.objects.create(file="old.txt")

    Document.objects.bulk_create(
        [Document(pk=old.pk, file="new.txt"), Document(file="another.txt")],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["file"],
    )

    assert recorded() == [(FILE, "old.txt", "UPDATE")]


def test_bulk_create_that_ignores_conflicts_records_nothing() -> None:
    old = Document.objects.create(file="old.txt")

    Document.objects.bulk_create([Document(pk=old.pk, file="new.txt")], ignore_conflicts=True)

    assert ledger() == []


def test_update_or_create_records_the_name_it_replaces() -> None:
    Document.objects.create(title="mine", file="old.txt")

    Document.objects.update_or_create(title="mine", defaults={"file": "new.txt"})

    assert recorded() == [(FILE, "old.txt", "UPDATE")]


def test_field_file_delete_records_the_name() -> None:
    document = Document.objects.create(file="old.txt")

    document.file.delete()

    assert recorded() == [(FILE, "old.txt", "UPDATE")]


def test_delete_of_a_row_with_a_composite_key_records_the_key_as_json() -> None:
    Page.objects.create(book='said "no"', number=3, scan="p.png")

    Page.objects.all().delete()

    assert [json.loads(entry.object_pk or "") for entry in ledger()] == [['said "no"', "3"]]


def test_delete_of_a_row_whose_key_is_the_file_records_it() -> None:
    NamedFile.objects.create(name="a.txt").delete()

    assert [(entry.name, entry.object_pk) for entry in ledger()] == [("a.txt", "a.txt")]


def test_delete_through_an_unmanaged_model_is_recorded() -> None:
    Manual.objects.create(pdf="a.pdf").delete()

    assert recorded() == [("project.manual.pdf", "a.pdf", "DELETE")]


def test_delete_in_a_third_partys_app_is_recorded() -> None:
    Brochure.objects.create(file="a.pdf").delete()

    assert recorded() == [("thirdparty.brochure.file", "a.pdf", "DELETE")]


def test_loaddata_records_the_names_of_rows_it_overwrites(tmp_path: Path) -> None:
    place = Place.objects.create(photo="old.png")
    fixture = tmp_path / "places.json"
    fixture.write_text(json.dumps([{"model": "project.place", "pk": place.pk, "fields": {"photo": "new.png"}}]))

    call_command("loaddata", str(fixture), verbosity=0)

    assert recorded() == [("project.place.photo", "old.png", "UPDATE")]


def test_historical_model_of_a_data_migration_is_recorded() -> None:
    Document.objects.bulk_create([Document(title="a", file="a.txt"), Document(title="b", file="b.txt")])

    def change(apps, schema_editor):
        apps.get_model("project", "Document").objects.filter(title="a").update(file="")
        apps.get_model("project", "Document").objects.get(title="b").delete()

    run_migration(migrations.RunPython(change))

    assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]


def test_data_migration_between_schema_changes_of_one_migration_is_recorded() -> None:
    Document.objects.bulk_create([Document(title="a", file="a.txt", thumb="a.png"), Document(title="b", file="b.txt")])

    def change(apps, schema_editor):
        apps.get_model("project", "Paper").objects.filter(title="a").update(scan="", thumb="")
        apps.get_model("project", "Paper").objects.get(title="b").delete()
        # The foreign keys to it are deferred, and PostgreSQL would not alter the table before they were checked.
        schema_editor.connection.check_constraints()

    run_migration(
        migrations.RenameField("Document", "file", "scan"),
        migrations.AlterField("Document", "thumb", models.TextField(null=True)),
        migrations.RenameModel("Document", "Paper"),
        migrations.RunPython(change),
        migrations.RemoveField("Paper", "scan"),
    )

    assert recorded_names() == ["a.png", "a.txt", "b.txt"]
