"""The ledger and its history in the admin, as a logged-in superuser sees them."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.triggers import sync
from tests.drain.support import let_go, orphaned
from tests.project.models import Document, Invoice
from tests.support import run_sql

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PENDING = "/admin/pgcleanup/pendingfiledeletion/"
SETTLED = "/admin/pgcleanup/settledfiledeletion/"


@pytest.fixture
def browser(transactional_db: None, media_root: Path) -> Client:
    """Log a superuser in."""
    sync("default")
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def page(browser: Client, url: str) -> str:
    response = browser.get(url)
    assert response.status_code == 200
    return response.content.decode()


def drain() -> None:
    call_command("drain_deletions", stdout=StringIO())


def test_pending_names_are_listed_with_their_state(browser: Client) -> None:
    let_go("report.pdf")

    content = page(browser, PENDING)

    assert "report.pdf" in content
    assert "waiting for a drain" in content


def test_pending_name_that_a_drain_has_seen_shows_when_it_is_due(browser: Client) -> None:
    let_go("report.pdf")
    drain()

    content = page(browser, PENDING)

    assert ">in its grace period</span></td>" in content
    assert '<td class="field-due nowrap">-</td>' not in content


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("attempts = 3, retry_at = now() + interval '1 hour', last_error = 'OSError: no'", "retrying"),
        ("exhausted_at = now(), retry_at = now(), attempts = 10", "failed"),
        ("attempts = 0", "due now"),
    ],
)
def test_state_is_told_in_words(browser: Client, settings: Settings, change: str, state: str) -> None:
    let_go("report.pdf")
    drain()
    run_sql(f"UPDATE pending_file_deletion SET {change}")
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)

    assert f">{state}</span></td>" in page(browser, PENDING)


def test_age_stands_above_the_list(browser: Client) -> None:
    let_go("report.pdf")

    assert "<h2>Oldest pending file: 0 s past its grace period, on time.</h2>" in page(browser, PENDING)


def test_late_deletions_are_said_to_be_late_above_the_list(browser: Client) -> None:
    let_go("report.pdf")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '2 days 1 hour'")
    drain()

    content = page(browser, PENDING)

    assert (
        "<h2>Oldest pending file: 2 d 00 h past its grace period, more than PGCLEANUP_MAX_AGE (1 day).</h2>" in content
    )
    assert 'class="warning">Database &quot;default&quot; is behind' in content


def test_name_that_failed_for_good_is_said_above_the_list(browser: Client) -> None:
    let_go("report.pdf")
    run_sql("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10")

    assert "<h2>Nothing is pending but 1 entry that failed for good.</h2>" in page(browser, PENDING)


@pytest.mark.parametrize(("url", "title"), [(PENDING, "Pending file deletions"), (SETTLED, "Settled file deletions")])
def test_list_has_a_plain_title(browser: Client, url: str, title: str) -> None:
    content = page(browser, url)

    assert f"<h1>{title}</h1>" in content
    assert "to view" not in content


def test_trial_is_named_above_the_list(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False

    assert "Nothing is deleted: PGCLEANUP_DELETE_FILES is False." in page(browser, PENDING)


@pytest.mark.parametrize("url", [PENDING, SETTLED])
def test_nothing_can_be_added_changed_or_deleted(browser: Client, settings: Settings, url: str) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("settled.pdf")
    drain()
    let_go("pending.pdf")
    model = PendingFileDeletion if url == PENDING else SettledFileDeletion
    entry = model.objects.get()

    refused = [
        browser.get(f"{url}add/").status_code,
        browser.post(f"{url}add/", {"name": "x"}).status_code,
        browser.post(f"{url}{entry.pk}/change/", {"name": "x"}).status_code,
        browser.post(f"{url}{entry.pk}/delete/", {"post": "yes"}).status_code,
    ]

    assert refused == [403] * 4
    assert model.objects.get().name == entry.name
    assert "Save" not in page(browser, f"{url}{entry.pk}/change/")


def test_list_is_searched_by_a_part_of_the_name(browser: Client) -> None:
    let_go("docs/report.pdf", "docs/letter.pdf")

    content = page(browser, f"{PENDING}?q=REPORT")

    assert "docs/report.pdf" in content
    assert "docs/letter.pdf" not in content


def test_list_is_filtered_by_field(browser: Client) -> None:
    let_go("a.pdf")
    let_go("b.png", model=Invoice, field="scan")

    content = page(browser, f"{PENDING}?source=project.invoice.scan")

    assert "b.png" in content
    assert "a.pdf" not in content


def test_list_is_filtered_by_fields_that_no_model_has(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    PendingFileDeletion.objects.filter(name="b.pdf").update(source="shop.gone.file")

    content = page(browser, f"{PENDING}?source=-")

    assert "b.pdf" in content
    assert "a.pdf" not in content


def test_list_is_filtered_by_operation(browser: Client) -> None:
    let_go("deleted.pdf")
    document = Document.objects.create(file="updated.pdf")
    Document.objects.filter(pk=document.pk).update(file="")

    content = page(browser, f"{PENDING}?operation=UPDATE")

    assert "updated.pdf" in content
    assert "deleted.pdf" not in content


def test_history_is_filtered_by_outcome_and_shows_reason_and_size(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("deleted.pdf", b"12345")
    let_go("../rejected.pdf")
    drain()

    deleted = page(browser, f"{SETTLED}?outcome=deleted")
    rejected = page(browser, f"{SETTLED}?outcome=rejected")

    assert "5\N{NO-BREAK SPACE}bytes" in deleted
    assert "../rejected.pdf" not in deleted
    assert "leads out of the storage" in rejected


def test_history_tells_the_reason_in_the_words_of_the_drain(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    Document.objects.create(file="shared.pdf")
    let_go("shared.pdf")
    drain()

    assert '<td class="field-because">still named by project.document.file</td>' in page(browser, SETTLED)


def test_long_name_is_cut_in_the_list_and_whole_in_its_title(browser: Client) -> None:
    name = f"documents/{'x' * 100}/report.pdf"
    let_go(name)

    content = page(browser, PENDING)

    assert f'<span title="{name}">documents/xxxx' in content
    assert "…" in content


def test_source_filter_does_not_read_the_table_for_its_choices(browser: Client) -> None:
    let_go("a.pdf")

    with CaptureQueriesContext(connections["default"]) as queries:
        page(browser, SETTLED)

    assert not [query["sql"] for query in queries if "DISTINCT" in query["sql"]]


def test_no_query_counts_a_whole_table(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcleanup.admin.lists.COUNTED", 2)
    let_go("a.pdf", "b.pdf", "c.pdf")

    with CaptureQueriesContext(connections["default"]) as queries:
        page(browser, PENDING)

    counts = [q["sql"] for q in queries if "COUNT(" in q["sql"] and "pending_file_deletion" in q["sql"]]
    assert counts
    assert all("LIMIT 2" in statement for statement in counts)


def test_number_of_queries_does_not_grow_with_the_entries(browser: Client) -> None:
    let_go("a.pdf")
    with CaptureQueriesContext(connections["default"]) as few:
        page(browser, PENDING)
    let_go(*(f"{number}.pdf" for number in range(20)))

    with CaptureQueriesContext(connections["default"]) as many:
        page(browser, PENDING)

    assert len(many) == len(few)


def test_entry_is_shown_with_all_that_was_recorded(browser: Client) -> None:
    let_go("report.pdf")
    entry = PendingFileDeletion.objects.get()

    content = page(browser, f"{PENDING}{entry.pk}/change/")

    assert "project.document.file" in content
    assert entry.db_user in content
    assert str(entry.transaction_id) in content


@pytest.mark.parametrize("url", [PENDING, SETTLED])
def test_entry_is_shown_without_raw_values(browser: Client, settings: Settings, url: str) -> None:
    let_go("report.pdf")
    drain()
    if url == SETTLED:
        settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
        drain()
    entry = (PendingFileDeletion if url == PENDING else SettledFileDeletion).objects.get()

    content = page(browser, f"{url}{entry.pk}/change/")
    shown = dict(re.findall(r'<label>([^<]+):</label>\s*<div class="readonly">(.*?)</div>', content))

    assert shown["Let go under keep()"] == "no"
    assert shown["First seen by a drain"] == shown["Recorded at"] != "-"
    assert not {value for value in shown.values() if value in ("", "None") or "+00:00" in value}


def test_name_with_control_characters_is_shown_escaped(browser: Client) -> None:
    let_go("<b>new\nline</b>.pdf")

    content = page(browser, PENDING)

    assert "&lt;b&gt;new\\nline&lt;/b&gt;" in content


def test_staff_without_the_view_permission_sees_nothing(browser: Client) -> None:
    browser.force_login(User.objects.create_user("clerk", is_staff=True))

    assert browser.get(PENDING).status_code == 403


def test_both_tables_are_in_the_admin_under_a_plain_name(browser: Client) -> None:
    content = page(browser, "/admin/")

    assert "File deletions" in content
    assert {PendingFileDeletion, SettledFileDeletion} <= set(admin.site._registry)
