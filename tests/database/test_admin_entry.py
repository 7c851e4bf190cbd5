"""The page of an entry: the whole story of a file; and the link to it from a project's own admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches, path
from pytest_django import Settings

from pgcleanup import context
from pgcleanup.admin import FileHistoryMixin, PendingAdmin, SettledAdmin
from pgcleanup.drain import drain
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.status.rows import Patience
from pgcleanup.triggers import sync
from tests.drain.support import let_go, orphaned, put
from tests.project.models import Document, Page
from tests.support import session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PENDING = "/admin/pgcleanup/pendingfiledeletion/"
SETTLED = "/admin/pgcleanup/settledfiledeletion/"


class DocumentAdmin(FileHistoryMixin, admin.ModelAdmin):
    """A project's own."""


class OtherPending(PendingAdmin):
    """Of another database."""

    using = "other"


class OtherSettled(SettledAdmin):
    """Of another database."""

    using = "other"


class OtherDocument(DocumentAdmin):
    """Of another database."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).using("other")


site, other_site = admin.AdminSite(), admin.AdminSite(name="other")
other_site.register(PendingFileDeletion, OtherPending)
other_site.register(SettledFileDeletion, OtherSettled)
other_site.register(Document, OtherDocument)
site.register(PendingFileDeletion, PendingAdmin)
site.register(SettledFileDeletion, SettledAdmin)
site.register(Document, DocumentAdmin)
urlpatterns = [path("admin/", site.urls), path("other/", other_site.urls)]


@pytest.fixture
def browser(transactional_db: None, media_root: Path, settings: Settings) -> Iterator[Client]:
    """Log a superuser in, on a site with a model of its own."""
    settings.ROOT_URLCONF = __name__
    sync("default")
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    yield client
    clear_url_caches()


def page(browser: Client, url: str) -> str:
    response = browser.get(url)
    assert response.status_code == 200
    return response.content.decode()


def story(browser: Client, name: str) -> str:
    for url, model in ((PENDING, PendingFileDeletion), (SETTLED, SettledFileDeletion)):
        if entry := model.objects.filter(name=name).first():
            return page(browser, f"{url}{entry.pk}/change/")
    raise AssertionError(f"no entry of {name}")


def test_page_says_who_let_the_name_go_when_and_in_what_context(browser: Client) -> None:
    with context(user=17, path="/documents/4/delete/"):
        let_go("a.pdf")

    content = story(browser, "a.pdf")

    assert "was deleted. That was done by database user" in content
    assert "/documents/4/delete/" in content
    assert "No drain has seen it yet" in content


def test_page_says_what_is_still_to_come(browser: Client) -> None:
    let_go("a.pdf")
    drain()

    content = story(browser, "a.pdf")

    assert "Still to come: The grace period ends, as PGCLEANUP_GRACE_PERIOD is set now." in content
    assert "Run: manage.py drain_deletions, after" in content


def test_page_says_which_row_still_names_the_file(browser: Client) -> None:
    put("a.pdf")
    document = Document.objects.create(file="a.pdf")
    let_go("a.pdf")

    content = story(browser, "a.pdf")

    assert "It stays as long as a row names it." in content
    assert f"Named by project.document.file: {document.pk}." in content


def test_page_of_a_settled_entry_tells_how_it_went(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf", b"12345")
    drain()

    content = story(browser, "a.pdf")

    assert "It is gone; the history says how." in content
    assert "Was deleted (5 bytes). By the drain" in content


def test_page_lists_the_other_entries_of_the_name(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    drain()
    let_go("a.pdf")
    before = SettledFileDeletion.objects.get()

    content = story(browser, "a.pdf")

    assert f'href="{SETTLED}{before.pk}/change/"' in content
    assert "<td>deleted</td>" in content


def test_page_links_to_the_object_that_is_still_there(browser: Client) -> None:
    document = Document.objects.create(title="Terms", file="a.pdf")
    document.file = "b.pdf"
    document.save()

    assert f'<a href="/admin/project/document/{document.pk}/change/">' in story(browser, "a.pdf")


def test_page_says_that_the_object_is_gone(browser: Client) -> None:
    let_go("a.pdf")

    assert "which is there no more" in story(browser, "a.pdf")


def test_object_that_its_manager_hides_is_not_said_to_be_gone(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document.objects.create(file="a.pdf")
    Document.objects.filter(pk=document.pk).update(file="b.pdf")
    monkeypatch.setattr(DocumentAdmin, "get_queryset", lambda self, request: Document.objects.none())

    content = story(browser, "a.pdf")

    assert f"Document {document.pk} (file)." in content
    assert "which is there no more" not in content


def test_object_with_a_composite_key_is_looked_for(browser: Client) -> None:
    Page.objects.create(book="x", number=2, scan="a.pdf")
    Page.objects.update(scan="b.pdf")
    Page.objects.create(book="x", number=3, scan="gone.pdf").delete()

    assert "Page [&quot;x&quot;, &quot;2&quot;] (scan)." in story(browser, "a.pdf")
    assert "which is there no more" in story(browser, "gone.pdf")


def test_page_of_a_field_that_no_model_has_is_shown(browser: Client) -> None:
    let_go("a.pdf")
    PendingFileDeletion.objects.update(source="shop.gone.file")

    assert "No installed model has the field shop.gone.file" in story(browser, "a.pdf")


def test_page_asks_few_questions_however_many_fields_there_are(browser: Client) -> None:
    let_go("a.pdf")

    with CaptureQueriesContext(connections["default"]) as own, CaptureQueriesContext(connections["other"]) as other:
        content = story(browser, "a.pdf")

    assert "No row names it." in content
    assert len(own) + len(other) < 80


def test_table_that_does_not_answer_is_named_and_the_others_are_asked(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgcleanup.admin.entry.PATIENCE", Patience(timedelta(milliseconds=20)))
    let_go("a.pdf")
    with session(autocommit=False) as other:
        other.execute("LOCK TABLE project_invoice")

        content = story(browser, "a.pdf")

    assert "Whether project.invoice.scan names it could not be read" in content
    assert "Whether project.document.file names it" not in content


def test_history_too_large_to_read_is_said_and_the_rest_is_shown(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgcleanup.admin.entry.HISTORY_SECONDS", 0.05)
    monkeypatch.setattr("pgcleanup.ledger.story._SETTLED_OF", "SELECT pg_sleep(10) /* %(name)s %(limit)s */")
    let_go("a.pdf")

    content = story(browser, "a.pdf")

    assert "The history takes too long to read here." in content
    assert "What happened" in content


def test_link_to_a_pending_entry_leads_on_to_what_became_of_it(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    key = PendingFileDeletion.objects.get().pk
    drain()

    answer = browser.get(f"{PENDING}{key}/change/")

    assert (answer.status_code, answer["Location"]) == (302, f"{SETTLED}{key}/change/")


def test_history_button_of_an_entry_leads_to_its_page(browser: Client) -> None:
    let_go("a.pdf")
    key = PendingFileDeletion.objects.get().pk

    assert browser.get(f"{PENDING}{key}/history/")["Location"] == f"{PENDING}{key}/change/"


def test_object_of_a_project_links_to_the_history_of_its_files(browser: Client, settings: Settings) -> None:
    document = Document.objects.create(file="a.pdf")
    Document.objects.filter(pk=document.pk).update(file="b.pdf")

    link = f"/admin/project/document/{document.pk}/file-history/"
    change, history = page(browser, f"/admin/project/document/{document.pk}/change/"), page(browser, link)

    assert f'<a href="{link}">File history</a>' in change
    assert "a.pdf" in history
    assert "b.pdf" not in history


def test_history_of_an_object_that_was_deleted_is_shown_all_the_same(browser: Client) -> None:
    let_go("a.pdf")
    key = PendingFileDeletion.objects.get().object_pk

    assert "a.pdf" in page(browser, f"/admin/project/document/{key}/file-history/")


def test_file_history_is_not_for_who_may_not_see_what_was_settled(browser: Client) -> None:
    document = Document.objects.create(file="a.pdf")
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename="change_document"))
    browser.force_login(clerk)

    change = page(browser, f"/admin/project/document/{document.pk}/change/")

    assert "File history" not in change
    assert browser.get(f"/admin/project/document/{document.pk}/file-history/").status_code == 403


def clerk(browser: Client, *permissions: str) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser.force_login(user)


@pytest.fixture
def both(browser: Client, settings: Settings) -> tuple[str, str]:
    """Make a settled entry and a pending one of a name. Returns the addresses of their pages."""
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    drain()
    let_go("a.pdf")
    settled, pending = SettledFileDeletion.objects.get(), PendingFileDeletion.objects.get()
    return f"{SETTLED}{settled.pk}/change/", f"{PENDING}{pending.pk}/change/"


def test_who_may_see_what_is_pending_sees_nothing_that_was_settled(browser: Client, both: tuple[str, str]) -> None:
    clerk(browser, "view_pendingfiledeletion")
    settled, pending = both
    redirected = settled.replace(SETTLED, PENDING)

    content = page(browser, pending) + page(browser, "/admin/pgcleanup/")

    assert settled not in content
    assert SETTLED not in content
    assert "deleted" not in content.replace("was deleted. That was done by", "")
    assert browser.get(redirected)["Location"] == "/admin/"


def test_who_may_see_what_was_settled_sees_nothing_that_is_pending(browser: Client, both: tuple[str, str]) -> None:
    clerk(browser, "view_settledfiledeletion", "view_document")
    settled, _pending = both
    key = SettledFileDeletion.objects.get().object_pk

    content = page(browser, settled) + page(browser, f"/admin/project/document/{key}/file-history/")

    assert PENDING not in content
    assert "is for who may view pending file deletions" in content
    assert "No drain has seen it yet" not in content


def test_file_history_of_a_deleted_object_is_not_for_who_may_not_see_its_model(
    browser: Client, both: tuple[str, str]
) -> None:
    clerk(browser, "view_settledfiledeletion")
    key = SettledFileDeletion.objects.get().object_pk

    assert browser.get(f"/admin/project/document/{key}/file-history/").status_code == 403


def test_admin_of_another_database_shows_and_changes_what_is_there(browser: Client) -> None:
    let_go("default.pdf")
    Document.objects.using("other").create(file="other.pdf").delete(using="other")
    key = PendingFileDeletion.objects.using("other").get().pk
    pending = PENDING.replace("/admin/", "/other/")
    names = ("default.pdf", "other.pdf")

    seen = [page(browser, url) for url in (pending, f"{pending}{key}/change/", f"{pending}?q=pdf")]
    overview = page(browser, "/other/pgcleanup/")
    browser.post(pending, {"action": "cancel", "_selected_action": key, "post": "yes"})

    assert [[name for name in names if name in content] for content in seen] == [["other.pdf"]] * 3
    assert f"{pending}?state=unseen" in overview
    assert PendingFileDeletion.objects.using("other").get().cancelled_at is not None
    assert PendingFileDeletion.objects.get().cancelled_at is None


def test_file_history_is_of_the_database_of_the_object(browser: Client) -> None:
    here = Document.objects.create(file="here")
    Document.objects.using("other").create(pk=here.pk, file="there")
    for alias in ("default", "other"):
        Document.objects.using(alias).update(file="")

    content = page(browser, f"/other/project/document/{here.pk}/file-history/")

    assert ">there</a>" in content
    assert ">here</a>" not in content


def test_list_is_searched_by_object(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    key = PendingFileDeletion.objects.get(name="b.pdf").object_pk

    content = page(browser, f"{PENDING}?q=project.document:{key}")

    assert "b.pdf" in content
    assert "a.pdf" not in content
