"""Retrying and cancelling in the admin: permissions of their own, a confirmation, and an entry in its log."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.models import PendingFileDeletion
from pgcleanup.triggers import sync
from tests.drain.support import entries, let_go, orphaned, settled
from tests.project.models import Archive
from tests.support import run_sql, session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PENDING = "/admin/pgcleanup/pendingfiledeletion/"
FAILED = "UPDATE pending_file_deletion SET attempts = 10, exhausted_at = now(), retry_at = now(), last_error = 'no'"


@pytest.fixture
def browser(transactional_db: None, media_root: Path) -> Client:
    """Log a superuser in."""
    sync("default")
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def clerk(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def run(browser: Client, action: str, *names: str, confirmed: bool = True) -> str:
    chosen = PendingFileDeletion.objects.filter(name__in=names).values_list("pk", flat=True)
    data = {"action": action, "_selected_action": list(chosen), **({"post": "yes"} if confirmed else {"index": 0})}
    response = browser.post(PENDING, data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_failed_file_that_is_retried_has_all_its_attempts_again(browser: Client) -> None:
    let_go("a.pdf")
    run_sql(FAILED)

    content = run(browser, "retry", "a.pdf")

    assert "1 file will be tried again by the next drain." in content
    assert entries("attempts, exhausted_at, retry_at") == [(0, None, None)]


def test_cancelled_file_stays_and_settles_as_cancelled(browser: Client, settings: Settings) -> None:
    path = orphaned("a.pdf")

    run(browser, "cancel", "a.pdf")
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    drain()

    assert path.exists()
    assert settled() == [("a.pdf", "cancelled")]


@pytest.mark.parametrize("action", ["retry", "cancel"])
def test_nothing_happens_before_it_is_confirmed(browser: Client, action: str) -> None:
    let_go("a.pdf")
    run_sql(FAILED)
    before = entries("*")

    content = run(browser, action, "a.pdf", confirmed=False)

    assert entries("*") == before
    assert "a.pdf" in content
    assert 'name="post" value="yes"' in content


def test_all_that_a_filter_shows_is_cancelled_however_many_they_are(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    run_sql(
        "INSERT INTO pending_file_deletion (source, name, operation, transaction_id, db_user, application_name)"
        " SELECT 'project.document.file', 'many/' || n, 'DELETE', 1, 'x', '' FROM generate_series(1, 1100) n"
    )
    first = PendingFileDeletion.objects.get(name="many/1").pk
    across = {"action": "cancel", "_selected_action": first, "select_across": "1", "index": 0}

    asked = browser.post(f"{PENDING}?q=many", across)
    let_go("many/late")
    form: dict[str, list[str]] = {}
    for key, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asked.content.decode()):
        form.setdefault(key, []).append(value)
    done = browser.post(PENDING, form, follow=True)

    assert "1,100 files cancelled" in done.content.decode()
    assert PendingFileDeletion.objects.filter(cancelled_at=None).count() == 3
    assert PendingFileDeletion.objects.filter(name__in=["a.pdf", "b.pdf", "many/late"], cancelled_at=None).count() == 3


def test_more_than_one_page_of_entries_is_done_in_turns(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcleanup.admin.operations.COUNTED", 2)
    let_go("a.pdf", "b.pdf", "c.pdf")
    across = {"action": "cancel", "_selected_action": "-", "select_across": "1"}

    for _ in range(2):
        browser.post(PENDING, {**across, "post": "yes"})

    assert entries("cancelled_at IS NOT NULL") == [(True,)] * 3


def test_all_entries_of_a_name_are_cancelled_and_no_other_name(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    let_go("a.pdf")
    newest = PendingFileDeletion.objects.filter(name="a.pdf").latest("id")

    browser.post(PENDING, {"action": "cancel", "_selected_action": newest.pk, "post": "yes"})

    assert entries("name, cancelled_at IS NOT NULL") == [("a.pdf", True), ("b.pdf", False), ("a.pdf", True)]


def test_same_name_in_another_storage_is_not_cancelled(browser: Client) -> None:
    let_go("a.pdf")
    let_go("a.pdf", model=Archive)
    document = PendingFileDeletion.objects.get(source="project.document.file")

    browser.post(PENDING, {"action": "cancel", "_selected_action": document.pk, "post": "yes"})

    assert entries("cancelled_at IS NOT NULL") == [(True,), (False,)]


def test_what_was_done_is_in_the_log_of_the_admin_and_on_the_page_of_the_file(browser: Client) -> None:
    let_go("a.pdf")

    run(browser, "cancel", "a.pdf")
    entry = PendingFileDeletion.objects.get()
    content = browser.get(f"{PENDING}{entry.pk}/change/").content.decode()

    logged = LogEntry.objects.get()
    assert (logged.object_id, logged.object_repr) == (str(entry.pk), "a.pdf")
    assert "admin: Cancelled the deletion: the file stays." in content


def test_name_that_a_drain_works_on_is_left_said_and_not_logged(browser: Client) -> None:
    let_go("a.pdf")
    with session(autocommit=False) as other:
        other.execute("SELECT FROM pending_file_deletion FOR UPDATE")

        content = run(browser, "cancel", "a.pdf")

    assert "A drain works on these right now" in content
    assert not LogEntry.objects.exists()


def test_entry_that_is_settled_meanwhile_is_said_to_be_pending_no_more(browser: Client) -> None:
    let_go("a.pdf")
    key = PendingFileDeletion.objects.get().pk
    run_sql("DELETE FROM pending_file_deletion")

    response = browser.post(PENDING, {"action": "retry", "_selected_action": key, "post": "yes"}, follow=True)

    assert "None of the selected files is pending any more, or waits for this." in response.content.decode()


@pytest.mark.parametrize(("action", "permission"), [("retry", "cancel"), ("cancel", "retry")])
def test_action_needs_its_own_permission(browser: Client, action: str, permission: str) -> None:
    let_go("a.pdf")
    run_sql(FAILED)
    before = entries("*")

    content = run(clerk("view_pendingfiledeletion", f"{permission}_pendingfiledeletion"), action, "a.pdf")

    assert entries("*") == before
    assert f'<option value="{action}">' not in content
    assert f'<option value="{permission}">' in content


def test_permission_is_enough_without_being_a_superuser(browser: Client) -> None:
    let_go("a.pdf")

    run(clerk("view_pendingfiledeletion", "cancel_pendingfiledeletion"), "cancel", "a.pdf")

    assert entries("cancelled_at IS NOT NULL") == [(True,)]
