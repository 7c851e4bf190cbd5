"""The two signals, with django-cleanup's keyword arguments, so that its receivers work as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connections
from django.db.models.fields import NOT_PROVIDED
from django.db.models.fields.files import FieldFile, ImageFieldFile

import pgcleanup
from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Session, let_go, orphaned, put
from tests.project.models import Attachment, Avatar, Document, NamedFile, Page, Restaurant
from tests.storages import FailingStorage, MemoryStorage

BOTH = {
    *("sender", "signal", "deleted", "updated", "model_name", "field_name", "file_name", "default_file_name"),
    *("file", "instance", "object_pk", "operation", "context"),
}


@pytest.fixture
def sent(receive) -> dict[str, dict[str, Any]]:
    """Return what the last pre and post signal came with, and the file's name at that time."""
    seen: dict[str, dict[str, Any]] = {}
    receive(
        before=lambda **kwargs: seen.update(pre=kwargs, name_before=kwargs["file"].name),
        after=lambda **kwargs: seen.update(post=kwargs, name_after=kwargs["file"].name),
    )
    return seen


def test_arguments_are_django_cleanups_and_two_more(sent):
    orphaned("docs/a.txt")

    drain()

    assert set(sent["pre"]) == BOTH
    assert set(sent["post"]) == BOTH | {"success", "error"}


def test_arguments_after_a_delete(sent):
    put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    key = row.pk
    row.delete()

    drain()

    pre = sent["pre"]
    assert pre["sender"] is Document
    assert (pre["deleted"], pre["updated"], pre["operation"]) == (True, False, "DELETE")
    assert (pre["model_name"], pre["field_name"], pre["file_name"]) == ("project.document", "file", "docs/a.txt")
    assert pre["object_pk"] == str(key)
    assert type(pre["file"]) is FieldFile
    assert pre["file"].storage.location
    assert (sent["post"]["success"], sent["post"]["error"]) == (True, None)


def test_context_comes_with_both_signals(sent):
    put("docs/a.txt")
    with pgcleanup.context(user=7):
        let_go("docs/a.txt")

    drain()

    assert sent["pre"]["context"] == sent["post"]["context"] == {"user": 7}


def test_context_that_is_no_json_comes_as_text(sent):
    put("docs/a.txt")
    let_go("docs/a.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET context = 'not JSON'")

    drain()

    assert sent["pre"]["context"] == "not JSON"


def test_arguments_after_an_update(sent):
    put("docs/a.txt")
    row = Document.objects.create(file="docs/a.txt")
    Document.objects.update(file="docs/b.txt")

    drain()

    pre = sent["pre"]
    assert (pre["deleted"], pre["updated"], pre["operation"]) == (False, True, "UPDATE")
    assert pre["file_name"] == "docs/a.txt"
    assert pre["instance"].pk == row.pk


def test_arguments_after_a_truncate(sent):
    put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    sql.execute("default", "TRUNCATE project_document CASCADE")

    drain()

    assert (sent["pre"]["deleted"], sent["pre"]["updated"], sent["pre"]["operation"]) == (True, False, "TRUNCATE")


def test_file_is_the_same_object_in_both_signals_and_has_no_name_after_success(sent):
    orphaned("docs/a.txt")

    drain()

    assert sent["pre"]["file"] is sent["post"]["file"]
    assert (sent["name_before"], sent["name_after"]) == ("docs/a.txt", None)


def test_file_keeps_its_name_after_a_failure(sent, store):
    storage = store(FailingStorage(method="delete"), Document)
    storage.put("docs/a.txt")
    let_go("docs/a.txt")

    drain()

    assert sent["name_after"] == "docs/a.txt"
    assert sent["post"]["success"] is False
    assert isinstance(sent["post"]["error"], ConnectionError)


def test_file_can_still_be_read_before_it_goes(receive):
    orphaned("docs/a.txt", b"archive me")
    archived = []
    receive(before=lambda file, **kwargs: archived.append(file.read()))

    drain()

    assert archived == [b"archive me"]


def test_default_file_name_is_the_fields_default_or_an_instance_of_not_provided(sent):
    orphaned("docs/a.txt")
    drain()
    of_document = sent["pre"]["default_file_name"]
    let_go_image("avatars/mine.png")
    drain()

    assert isinstance(of_document, NOT_PROVIDED)
    assert sent["pre"]["default_file_name"] == "avatars/default.png"


@pytest.fixture
def instance(receive):
    """Return a function that drains, with something done to the instance in the pre signal, and returns the result."""

    def drain_with(act):
        outcome: list[Any] = []

        def receiver(instance, **kwargs):
            try:
                outcome.append(act(instance))
            except Exception as error:
                outcome.append(error)

        receive(before=receiver)
        drain()
        return outcome[0]

    return drain_with


def let_go_image(name: str) -> None:
    """Delete a row of an image field with dimensions, without the file that Django would open for them."""
    session = Session()
    session.run("INSERT INTO project_avatar (image) VALUES (%s)", name)
    session.run("DELETE FROM project_avatar")
    session.raw.close()


def test_instance_of_a_changed_row_loads_the_row_as_it_is_now(instance):
    Document.objects.create(title="now", file="docs/a.txt")
    Document.objects.update(file="docs/b.txt")

    loaded = instance(lambda row: (row.get_deferred_fields(), row.title, row.file.name))

    assert loaded == ({"title", "file", "thumb"}, "now", "docs/b.txt")


def test_instance_of_a_deleted_row_knows_the_old_name_and_nothing_else(instance):
    orphaned("docs/a.txt")

    deferred, name = instance(lambda row: (row.get_deferred_fields(), row.file.name))

    assert deferred == {"title", "thumb"}
    assert name == "docs/a.txt"


def test_other_attributes_of_a_deleted_row_do_not_exist(instance):
    orphaned("docs/a.txt")

    assert isinstance(instance(lambda row: row.title), Document.DoesNotExist)


def test_saving_the_instance_of_a_deleted_row_does_not_bring_it_back(instance):
    orphaned("docs/a.txt")

    instance(lambda row: row.save())

    assert not Document.objects.exists()


def test_saving_the_instance_of_a_changed_row_does_not_write_the_old_name_back(instance):
    Document.objects.create(file="docs/a.txt")
    Document.objects.update(file="docs/b.txt")

    instance(lambda row: row.save())

    assert Document.objects.get().file.name == "docs/b.txt"


def test_saving_the_instance_of_a_deleted_row_whose_key_is_in_use_again_does_not_write_the_old_name(instance):
    row = Document.objects.create(file="docs/a.txt")
    key = row.pk
    row.delete()
    Document.objects.create(pk=key, file="docs/b.txt")

    instance(lambda row: row.save())

    assert Document.objects.get().file.name == "docs/b.txt"


@pytest.mark.parametrize("operation", ["DELETE", "UPDATE"])
@pytest.mark.parametrize("fields", [["title"], ["file"], ["title", "thumb"]], ids=" and ".join)
def test_model_that_reads_fields_when_it_is_made_is_told_of(receive, monkeypatch, operation, fields):
    """As many do to compare with them in `save()`. Of the instance nothing but the key is loaded."""
    made = Document.__init__

    def remember(self: Document, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.before = [getattr(self, field) for field in fields]

    monkeypatch.setattr(Document, "__init__", remember)
    heard = []
    receive(before=lambda instance, **kwargs: heard.append((instance.pk, instance._state.adding, instance._state.db)))
    receive(after=lambda instance, operation, **kwargs: heard.append(operation))
    path = put("docs/a.txt")
    row = Document.objects.create(title="now", file="docs/a.txt")
    if operation == "DELETE":
        Document.objects.all().delete()
    else:
        Document.objects.update(file="docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert heard == [(row.pk, False, "default"), operation]
    assert not path.exists()


@pytest.mark.parametrize(
    "act",
    [lambda file: file.delete(), lambda file: file.save("c.txt", ContentFile(b"new"))],
    ids=["deletes", "saves"],
)
def test_receiver_that_deletes_or_saves_by_the_file_changes_no_row(receive, act):
    """Django's own methods save their row by default, with the name that they have just changed."""
    path, current = put("docs/a.txt"), put("docs/b.txt")
    Document.objects.create(title="now", file="docs/a.txt")
    Document.objects.update(file="docs/b.txt")
    receive(before=lambda file, **kwargs: act(file))

    drain()

    row = Document.objects.get()
    assert (row.title, row.file.name) == ("now", "docs/b.txt")
    assert drain().counts == {}
    assert current.exists()
    assert not path.exists()


def test_image_field_with_dimensions_opens_no_file(receive, store):
    storage = store(MemoryStorage(), Avatar, "image")
    storage.put("avatars/mine.png", b"no image at all")
    let_go_image("avatars/mine.png")
    files = []
    receive(before=lambda file, instance, **kwargs: files.append((file, instance)))

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert isinstance(files[0][0], ImageFieldFile)
    assert storage.called("open") == []


def test_composite_primary_key_is_on_the_instance(receive):
    keys = []
    receive(before=lambda instance, object_pk, **kwargs: keys.append((instance.pk, object_pk)))
    Page.objects.create(book='b"x', number=3, scan="scans/a.png").delete()

    drain()

    assert [key for key, _ in keys] == [('b"x', 3)]
    assert json.loads(keys[0][1]) == ['b"x', "3"]


def test_primary_key_that_is_the_file_itself_is_on_the_instance(receive):
    keys = []
    receive(before=lambda instance, **kwargs: keys.append(str(instance.pk)))
    NamedFile.objects.create(name="names/a.txt").delete()

    drain()

    assert keys == ["names/a.txt"]


def test_sender_of_an_inherited_column_is_the_model_that_has_it(receive):
    senders = []
    receive(before=lambda sender, **kwargs: senders.append(sender.__name__))
    Restaurant.objects.create(photo="places/a.png", menu="menus/a.pdf").delete()

    drain()

    assert sorted(senders) == ["Place", "Restaurant"]


def test_sender_is_the_model_that_let_the_name_go_last_for_each_name_of_a_batch(receive):
    heard = {}
    receive(before=lambda sender, file_name, **_: heard.update({file_name: sender}))
    for name, models in {"a": (Document, Attachment), "b": (Attachment, Document)}.items():
        put(name)
        for model in models:
            let_go(name, model=model)

    drain()

    assert heard == {"a": Attachment, "b": Document}


def test_receiver_of_one_sender_hears_nothing_of_others(receive):
    senders = []
    receive(before=lambda sender, **kwargs: senders.append(sender), sender=Avatar)
    orphaned("docs/a.txt")

    drain()

    assert senders == []


def test_signals_come_inside_the_drains_transaction(receive):
    inside = []
    receive(before=lambda **kwargs: inside.append(connections["default"].in_atomic_block))
    orphaned("docs/a.txt")

    drain()

    assert inside == [True]
