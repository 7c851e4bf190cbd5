"""Filters of the admin's lists, and what they cost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.ledger import fence
from pgcleanup.models import PendingFileDeletion
from pgcleanup.triggers import sync
from tests.drain.support import let_go, orphaned
from tests.support import rewrite_history, run_sql, session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PENDING = "/admin/pgcleanup/pendingfiledeletion/"
SETTLED = "/admin/pgcleanup/settledfiledeletion/"
NAMES = {"unseen", "grace_period", "transaction", "due", "retrying", "failed", "left"}


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


def test_each_state_filter_shows_the_entries_of_its_state(browser: Client) -> None:
    old = "UPDATE file_deletion_stamp SET stamped_at = now() - interval '2 hours'"
    let_go("due", "retrying", "failed", "left")
    fence.stamp("default")
    with session(autocommit=False) as other:
        other.execute("SELECT 1")
        let_go("transaction")
        fence.stamp("default")
        run_sql(old)
        let_go("grace_period")
        fence.stamp("default")
        let_go("unseen")
        late = "now() + interval '1 hour'"
        run_sql(f"UPDATE pending_file_deletion SET attempts = 2, retry_at = {late} WHERE name = 'retrying'")
        run_sql("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now() WHERE name = 'failed'")
        run_sql(
            f"UPDATE pending_file_deletion SET retry_at = {late}, last_error = 'upload_window: x' WHERE name = 'left'"
        )

        shown = {
            state: {name for name in NAMES if f'title="{name}"' in page(browser, f"{PENDING}?state={state}")}
            for state in NAMES
        }

    assert shown == {state: {state} for state in NAMES}


def test_list_is_filtered_by_database_user(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    PendingFileDeletion.objects.filter(name="b.pdf").update(db_user="etl")

    content = page(browser, f"{PENDING}?db_user=etl")

    assert "b.pdf" in content
    assert "a.pdf" not in content


def test_list_is_narrowed_down_to_a_month_and_to_a_day(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    settings.TIME_ZONE = "UTC"
    orphaned("old.pdf")
    drain()
    orphaned("new.pdf")
    drain()
    rewrite_history("UPDATE settled_file_deletion SET settled_at = '2026-03-05 12:00Z' WHERE name = 'old.pdf'")
    rewrite_history("UPDATE settled_file_deletion SET settled_at = '2026-05-06 12:00Z' WHERE name = 'new.pdf'")
    march = "?settled_at__gte=2026-03-01+00%3A00%3A00%2B00%3A00&settled_at__lt=2026-04-01+00%3A00%3A00%2B00%3A00"

    whole, month = page(browser, SETTLED), page(browser, SETTLED + march)

    assert f'<a href="{march.replace("&", "&amp;")}">March 2026</a>' in whole
    assert "old.pdf" in month
    assert "new.pdf" not in month
    assert ">March 5</a>" in month


def test_list_that_ends_before_the_last_entry_says_so(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcleanup.admin.lists.COUNTED", 2)
    let_go("a.pdf", "b.pdf", "c.pdf")

    assert "2 and more: no more are counted and listed." in page(browser, PENDING)


def test_search_reads_the_table_once(browser: Client) -> None:
    let_go("a.pdf")

    with CaptureQueriesContext(connections["default"]) as queries:
        page(browser, f"{PENDING}?q=a.p")

    assert len([query for query in queries if "LIKE UPPER" in query["sql"]]) == 1
