"""The admin as people see and use it, in a real Chromium, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import override_settings
from PIL import Image

from pgcleanup.drain import drain as run_drain
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from tests.browser.conftest import SCREENSHOTS
from tests.browser.scene import fill
from tests.drain.support import let_go, orphaned, settled
from tests.project.models import Document

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

OVERVIEW = "pgcleanup/"
PENDING = "pgcleanup/pendingfiledeletion/"
SETTLED = "pgcleanup/settledfiledeletion/"
SERIOUS = ("serious", "critical")


@pytest.fixture
def scene(site: str) -> Iterator[None]:
    """Fill ledger and history."""
    with ExitStack() as stack:
        fill(stack)
        yield


def drain() -> None:
    # The setting, since the argument does not hold for a storage that another database names files in.
    with override_settings(PGCLEANUP_GRACE_PERIOD=timedelta(0)):
        run_drain()


def entry_url(name: str) -> str:
    for model, url in ((PendingFileDeletion, PENDING), (SettledFileDeletion, SETTLED)):
        if entry := model.objects.filter(name=name).first():
            return f"{url}{entry.pk}/change/"
    raise AssertionError(f"there is no entry of {name}")


def file_history() -> str:
    """Return the page of an object that let a file go."""
    document = Document.objects.get(title="Terms")
    Document.objects.filter(pk=document.pk).update(file="documents/terms-2.pdf")
    return f"project/document/{document.pk}/file-history/"


def choose(page: Any, name: str, action: str) -> None:
    """Tick an entry, choose an action, and come to its confirmation."""
    page.get_by_role("row", name=name).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(action)
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).first.click()


def test_overview_is_found_from_the_first_page_and_answers_at_a_glance(
    open_page: Callable[..., Any], scene: None
) -> None:
    page = open_page()

    page.get_by_role("main").get_by_role("link", name="File deletions", exact=True).click()
    page.wait_for_selector(".pgcleanup-overview")
    text = page.get_by_role("main").inner_text()

    assert page.get_by_role("heading", name="Needs attention").or_(page.get_by_role("heading", name="Behind")).count()
    assert "nightly-export" in text
    assert "Failed\t1" in text
    assert "ClientError: AccessDenied" in text
    assert page.get_by_role("img", name="Files deleted per day").is_visible()


def test_list_is_narrowed_down_by_clicks_and_by_search(open_page: Callable[..., Any], site: str, scene: None) -> None:
    page = open_page()
    page.goto(f"{site}{PENDING}")

    page.get_by_role("navigation", name="Filter").get_by_role("link", name="Failed").click()
    page.wait_for_url("**state=failed**")
    failed = page.locator("#result_list tbody tr").all_inner_texts()
    page.get_by_role("link", name="Clear all filters").click()
    page.wait_for_url(f"**{PENDING}?")
    page.locator("#searchbar").fill("invoice")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**q=invoice**")
    found = page.locator("#result_list tbody tr").all_inner_texts()

    assert ["contract-2024.pdf" in row for row in failed] == [True]
    assert ["invoice-0815.png" in row for row in found] == [True]


def test_failed_file_is_tried_again_and_goes_with_the_next_drain(open_page: Callable[..., Any], site: str) -> None:
    path = orphaned("documents/broken.pdf")
    PendingFileDeletion.objects.update(attempts=10, exhausted_at="2026-01-01T00:00Z", retry_at="2026-01-01T00:00Z")
    drain()
    still_there = path.exists()
    page = open_page()
    page.goto(f"{site}{PENDING}")

    choose(page, "documents/broken.pdf", "Try the selected files again")
    page.get_by_role("button", name="Yes, try again").click()
    page.wait_for_selector(".messagelist .success")
    said = page.locator(".messagelist").inner_text()
    drain()
    page.goto(f"{site}{SETTLED}")
    row = page.locator("#result_list tbody tr").inner_text()

    assert still_there
    assert "1 file will be tried again by the next drain." in said
    assert not path.exists()
    assert "documents/broken.pdf" in row
    assert "deleted" in row
    assert LogEntry.objects.get().get_change_message() == "Told the next drain to try the file again."


def test_cancelled_file_stays_and_its_page_tells_the_story(open_page: Callable[..., Any], site: str) -> None:
    path = orphaned("documents/wanted.pdf")
    page = open_page()
    page.goto(f"{site}{entry_url('documents/wanted.pdf')}")

    page.get_by_role("button", name="Cancel: keep the file").click()
    page.get_by_role("button", name="Yes, keep the files").click()
    page.wait_for_selector(".messagelist .success")
    drain()
    page.goto(f"{site}{entry_url('documents/wanted.pdf')}")
    text = page.get_by_role("main").inner_text()

    assert path.exists()
    assert settled() == [("documents/wanted.pdf", "cancelled")]
    assert "Somebody cancelled the deletion: the file stays." in text
    assert "admin: Cancelled the deletion: the file stays." in text


def test_file_is_cancelled_with_the_keyboard_alone(open_page: Callable[..., Any], site: str) -> None:
    let_go("documents/by-hand.pdf")
    page = open_page()
    page.goto(f"{site}{PENDING}")

    press_until(page, "input[name=_selected_action]")
    page.keyboard.press("Space")
    press_until(page, "select[name=action]", back=True)
    page.keyboard.type("Cancel")
    press_until(page, "button[name=index]")
    page.keyboard.press("Enter")
    page.wait_for_selector("input[name=post]", state="attached")
    press_until(page, "input[type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".messagelist .success")

    assert PendingFileDeletion.objects.get().cancelled_at is not None


def press_until(page: Any, selector: str, *, back: bool = False) -> None:
    """Press Tab until an element that the selector means has the focus."""
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached with Tab")


def test_object_has_a_link_to_the_history_of_its_files(open_page: Callable[..., Any], site: str, scene: None) -> None:
    document = Document.objects.get(title="Terms")
    document.file = "documents/terms-2.pdf"
    document.save()
    page = open_page()
    page.goto(f"{site}project/document/{document.pk}/change/")

    page.get_by_role("link", name="File history").click()
    page.get_by_role("link", name="documents/terms.pdf").click()

    page.get_by_role("heading", name="What happened").wait_for()
    assert page.get_by_role("main").get_by_role("link", name=str(document), exact=True).count() == 1


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_leaves_the_screen(
    open_page: Callable[..., Any], site: str, scene: None, theme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(width=width, theme=theme)
    # It is put into the page, which the policy forbids to everybody else.
    found, wide = [], []

    for url in ("", OVERVIEW, PENDING, SETTLED, entry_url("documents/contract-2024.pdf"), file_history(), "confirm"):
        if url == "confirm":
            page.goto(f"{site}{entry_url('documents/contract-2024.pdf')}")
            page.get_by_role("button", name="Try again").click()
            page.wait_for_selector("input[name=post]", state="attached")
        else:
            page.goto(f"{site}{url}")
        results = axe.run(page, context="#main" if url else None).response["violations"]
        found += [
            (url, one["id"], node["html"]) for one in results if one["impact"] in SERIOUS for node in one["nodes"]
        ]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(url)

    assert not found
    assert not wide


def test_whole_table_of_each_list_is_on_a_screen_of_1200(open_page: Callable[..., Any], site: str, scene: None) -> None:
    page = open_page(width=1200)
    cut = []

    for url in (PENDING, SETTLED):
        page.goto(f"{site}{url}")
        cut += (
            [url] if page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.results'))") else []
        )

    assert not cut


@pytest.mark.parametrize(
    ("picture", "url", "width", "height", "theme"),
    [
        ("admin-overview", OVERVIEW, 1200, 1095, "light"),
        ("admin-file", "documents/contract-2024.pdf", 1200, 640, "light"),
    ],
)
def test_screenshots_of_the_documentation_are_taken(
    open_page: Callable[..., Any], site: str, scene: None, picture: str, url: str, width: int, height: int, theme: str
) -> None:
    page = open_page(width=width, height=height, theme=theme)

    page.goto(site + (url if url.endswith("/") else entry_url(url)))
    path = shoot(page, SCREENSHOTS / f"{picture}.png")

    assert 5_000 < path.stat().st_size < 100_000


def shoot(page: Any, path: Path) -> Path:
    """Take a picture, in few colours: it lies in the repository."""
    page.screenshot(path=path, animations="disabled")
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
    return path
