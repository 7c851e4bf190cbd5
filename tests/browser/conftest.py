"""A real Chromium, the site it looks at, and what is in its ledger.

`make test` leaves this folder out: it is collected only where the command line names it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from pgcleanup.triggers import sync

HERE = Path(__file__).parent
SCREENSHOTS = HERE.parents[1] / "docs" / "images"
NEEDED = "run `make test-browser`; on Debian and Ubuntu first: apt-get install chromium fonts-dejavu-core"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# What keeps it from talking to anybody but the test's own server.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--hide-scrollbars"]

# Playwright's loop runs in this thread, where Django would refuse its own blocking queries.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it, or something in it, is named."""
    invoked_in = config.invocation_params.dir
    named = [(invoked_in / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Start Chromium, or skip and say what to install."""
    playwright = pytest.importorskip("playwright.sync_api", reason=f"playwright is not installed: {NEEDED}")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no Chromium: {NEEDED}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(transactional_db: None, media_root: Path, settings: Settings, live_server: LiveServer) -> str:
    """Serve the test project with a strict Content-Security-Policy. Returns the address of its admin."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.browser.policy.strict"]
    settings.ROOT_URLCONF = "tests.browser.urls"
    sync("default")
    User.objects.create_superuser("admin", password="admin")
    return f"{live_server.url}/admin/"


@pytest.fixture
def open_page(chromium: Any, site: str) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a window, logged in unless told otherwise, and watches what the browser says."""
    host = site.removesuffix("admin/")

    def ours(url: str) -> bool:
        return url.startswith((host, "data:"))

    contexts: list[Any] = []
    said: list[str] = []

    def opened(*, width: int = 1400, height: int = 900, theme: str = "light", login: bool = True) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            locale="en-US",
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if ours(request.url) else said.append(f"{request.url} is asked"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(site)
        if login:
            page.get_by_label("Username:").fill("admin")
            page.get_by_label("Password:").fill("admin")
            page.get_by_role("button", name="Log in").click()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not said, "the browser's console has errors"
