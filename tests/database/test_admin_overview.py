"""The admin's overview, and what its first page says: is it healthy, how far behind, what is stuck."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.ledger import control
from pgcleanup.triggers import sync
from tests.drain.support import let_go, orphaned
from tests.project.models import Invoice
from tests.support import rewrite_history, run_sql, session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

INDEX = "/admin/"
OVERVIEW = "/admin/pgcleanup/"


@pytest.fixture
def browser(transactional_db: None, media_root: Path) -> Client:
    """Log a superuser in."""
    sync("default")
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def page(browser: Client, url: str = OVERVIEW) -> str:
    response = browser.get(url)
    assert response.status_code == 200
    return response.content.decode()


def clerk(*permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_overview_says_that_nothing_is_pending(browser: Client) -> None:
    content = page(browser)

    assert '<strong class="pgcleanup-number">0 s</strong> behind: nothing is pending.' in content
    assert 'class="pgcleanup-age good"' in content


def test_overview_says_the_age_and_that_it_is_late(browser: Client) -> None:
    let_go("a.pdf")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '2 days 1 hour'")

    content = page(browser)

    assert '<strong class="pgcleanup-number">2 d 00 h</strong>' in content
    assert "Behind</span>" in content
    assert "manage.py drain_deletions --database default" in content


def test_overview_counts_by_state_and_by_field(browser: Client) -> None:
    let_go("a.pdf", "b.pdf")
    let_go("c.png", model=Invoice, field="scan")

    rows = re.findall(r'\?(\w+=[\w.]+)">([^<]+)</a></th><td class="pgcleanup-count">([^<]+)</td>', page(browser))

    assert rows == [
        ("state=unseen", "Waiting for a drain", "3"),
        ("source=project.document.file", "project.document.file", "2"),
        ("source=project.invoice.scan", "project.invoice.scan", "1"),
    ]


def test_overview_counts_no_further_than_its_bound(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcleanup.admin.overview.COUNTED", 2)
    let_go("a.pdf", "b.pdf", "c.pdf")

    assert '<td class="pgcleanup-count">2+</td>' in page(browser)


def test_overview_names_the_transaction_that_names_wait_for(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    with session(autocommit=False, application_name="nightly-export") as other:
        other.execute("SELECT 1")
        let_go("a.pdf")
        drain()

        content = page(browser)

    assert "nightly-export" in content
    assert "SELECT pg_terminate_backend(pid);" in content
    assert f'<th scope="row">{other.info.backend_pid if not other.closed else ""}' in content
    assert "Waiting for a transaction" in content


def test_overview_draws_what_was_deleted_with_words_for_who_does_not_see_it(
    browser: Client, settings: Settings
) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf", b"x" * 2_500)
    drain()

    content = page(browser)

    assert 'role="img" aria-label="Files deleted per day: 1 file in 30 days"' in content
    assert 'aria-label="Bytes deleted per day: 2.5 KB in 30 days"' in content


def test_chart_of_the_age_shows_how_late_a_file_went(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    drain()
    rewrite_history("UPDATE settled_file_deletion SET recorded_at = settled_at - interval '14 hours'")

    assert "Age of the oldest pending file, per day: at most 14 h 00 min in 30 days" in page(browser)


@pytest.mark.parametrize("use_tz", [True, False])
def test_chart_of_the_age_shows_each_day_that_a_file_waited(browser: Client, settings: Settings, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    drain()
    let_go("b.pdf")
    rewrite_history(
        "UPDATE settled_file_deletion"
        " SET recorded_at = now() - interval '9 days', settled_at = now() - interval '6 days'"
    )
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '3 days'")

    chart = page(browser).split("Age of the oldest pending file, per day")[-1]

    # Nine to six days ago, and from three days ago until now.
    assert len(re.findall(r'<tr><th scope="row">', chart.split("</table>")[0])) == 8


def test_chart_is_the_same_in_a_language_with_other_numbers(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf")
    drain()
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True

    places = re.findall(r'<rect x="([^"]*)"', page(browser))

    assert len(places) == 3
    assert all(re.fullmatch(r"\d+\.\d", place) for place in places)


def test_overview_lists_the_last_drains(browser: Client, settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf", b"x" * 2_500)
    drain()

    content = page(browser)

    assert "The last drain began 0 s ago" in content.replace(" 1 s", " 0 s")
    assert "1 (2.5 KB)" in content


def test_overview_says_which_trigger_is_disabled_and_the_statement_that_mends_it(browser: Client) -> None:
    run_sql("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row")
    try:
        content = page(browser)
    finally:
        run_sql("ALTER TABLE project_document ENABLE TRIGGER pgcleanup_row")

    assert "Somebody disabled a trigger of public.project_document" in content
    assert "ENABLE TRIGGER &quot;pgcleanup_row&quot;" in content
    assert 'class="pgcleanup-age bad"' in content


def test_overview_says_that_deletions_are_paused(browser: Client) -> None:
    control.pause("default", "ada", "looking into it")

    content = page(browser)

    assert "Paused</span>" in content
    assert "manage.py pgcleanup resume --database default" in content


def test_what_takes_too_long_to_read_is_left_out_and_said(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcleanup.ledger.bounded._DAYS", "SELECT pg_sleep(10) /* %(since)s %(zone)s */")
    monkeypatch.setattr("pgcleanup.admin.overview.SECONDS", 0.05)

    content = page(browser)

    assert "Not shown, since it takes too long to read: what was deleted on each day." in content


def test_overview_has_a_bounded_number_of_queries(browser: Client) -> None:
    let_go("a.pdf")
    with CaptureQueriesContext(connections["default"]) as few:
        page(browser)
    let_go(*(f"{number}.pdf" for number in range(20)))

    with CaptureQueriesContext(connections["default"]) as many:
        page(browser)

    assert len(many) == len(few)


def test_overview_is_not_for_who_may_not_see_the_ledger(browser: Client) -> None:
    content = page(clerk("view_settledfiledeletion"))

    assert "pgcleanup-overview" not in content


def test_first_page_says_that_deletions_are_late(browser: Client) -> None:
    let_go("a.pdf")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '2 days 1 hour'")
    drain()

    content = page(browser, INDEX)

    assert content.count("is behind, oldest pending file: 2 d 00 h") == 1
    assert f'<a href="{OVERVIEW}">Overview of file deletions</a>' in content


def test_first_page_says_that_no_drain_has_run_for_long(browser: Client) -> None:
    drain()
    run_sql("UPDATE file_deletion_control SET drained_at = now() - interval '3 days'")
    let_go("a.pdf")

    assert "No drain of database &quot;default&quot; has begun for 3 d 00 h" in page(browser, INDEX)


def test_first_page_says_nothing_where_all_is_well(browser: Client) -> None:
    let_go("a.pdf")
    drain()

    assert "messagelist" not in page(browser, INDEX)


def test_first_page_says_nothing_to_who_may_not_see_the_ledger(browser: Client) -> None:
    control.pause("default", "ada")

    assert "paused" not in page(clerk("view_user"), INDEX)
