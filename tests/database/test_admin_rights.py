"""The admin of a site whose database role has no rights on the ledger: what to type, and no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import clear_url_caches
from pytest_django import Settings

from pgcleanup.models import PendingFileDeletion
from pgcleanup.status.rights import TABLES
from tests.database.roles import logged_in, make_role
from tests.drain.support import entries, let_go
from tests.support import run_sql

pytestmark = pytest.mark.django_db

PENDING = "/admin/pgcleanup/pendingfiledeletion/"
SETTLED = "/admin/pgcleanup/settledfiledeletion/"


@pytest.fixture
def browser(db: None, media_root: Path, settings: Settings) -> Iterator[Client]:
    """Log a superuser in."""
    settings.ROOT_URLCONF = "tests.database.test_admin_entry"
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    yield client
    clear_url_caches()


@pytest.fixture
def web() -> str:
    """Make the role of a site, as docs/operations.md has it: no right on the ledger. Returns its name, quoted."""
    name = make_role("web")
    run_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    run_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
    run_sql(f"REVOKE ALL ON {', '.join(TABLES)} FROM {name}")
    return name


def grant(role: str) -> str:
    return f"GRANT SELECT ON {', '.join(TABLES)} TO {role};".replace('"', "&quot;")


@pytest.mark.parametrize("page", ["pending", "settled", "entry", "overview", "file history", "first"])
def test_page_without_rights_says_which_to_grant(browser: Client, web: str, page: str) -> None:
    let_go("a.pdf")
    entry = PendingFileDeletion.objects.get()
    url = {
        "pending": PENDING,
        "settled": SETTLED,
        "entry": f"{PENDING}{entry.pk}/change/",
        "overview": "/admin/pgcleanup/",
        "file history": f"/admin/project/document/{entry.object_pk}/file-history/",
        "first": "/admin/",
    }[page]

    with logged_in(web):
        response = browser.get(url)

    assert response.status_code == (200 if page in ("overview", "first") else 503)
    assert grant(web) in response.content.decode()


def test_overview_without_rights_says_nothing_of_what_it_cannot_read(browser: Client, web: str) -> None:
    let_go("a.pdf")

    with logged_in(web):
        page = browser.get("/admin/pgcleanup/").content.decode()

    assert "The ledger cannot be read." in page
    assert "No drain has run yet" not in page
    assert "Nothing is pending" not in page
    assert "Pending, by" not in page
    assert "Last drains" not in page


def test_pages_without_the_right_on_one_table_name_it(browser: Client, web: str) -> None:
    run_sql(grant(web).replace("&quot;", '"'))
    run_sql(f"REVOKE ALL ON file_deletion_control FROM {web}")

    with logged_in(web):
        content = browser.get(PENDING).content.decode()

    assert "may not read file_deletion_control." in content


def test_role_that_may_only_read_is_told_what_the_actions_need(browser: Client, web: str) -> None:
    run_sql(grant(web).replace("&quot;", '"'))
    let_go("a.pdf")
    key = PendingFileDeletion.objects.get().pk

    with logged_in(web):
        answer = browser.post(PENDING, {"action": "cancel", "_selected_action": key, "post": "yes"}, follow=True)

    assert f"GRANT UPDATE (attempts, retry_at, exhausted_at, cancelled_at) ON pending_file_deletion TO {web};".replace(
        '"', "&quot;"
    ) in (answer.content.decode())
    assert entries("cancelled_at") == [(None,)]
