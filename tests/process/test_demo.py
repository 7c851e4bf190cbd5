"""The demo tells the truth: it ends well only if every promise held, and says which did not."""

from __future__ import annotations

import http.cookiejar
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

CHECKOUT = Path(__file__).parents[2]
PROMISES = ("never early", "never lost", "at least once", "one visible age")


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.,]*", "N", text)


@dataclass
class Served:
    """A demo that has told its story and now serves its site."""

    process: subprocess.Popen[str]
    story: str
    site: str


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Run `python -m demo --serve`."""
    # As a shell starts it in the background: with an ignored SIGINT, which exec passes on.
    command = ["sh", "-c", 'trap "" INT; exec "$0" -m demo --serve', sys.executable]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        lines: list[str] = []
        try:
            while not lines or "demo/manage.py" not in lines[-1]:
                line = process.stdout.readline()
                assert line, "".join(lines)
                lines.append(line)
            story, _, site = "".join(lines).partition("\nThe site is running\n")
            yield Served(process, story, site)
        finally:
            process.terminate()


def test_demo_shows_every_change_and_that_every_promise_held_in_few_short_lines(served: Served) -> None:
    assert re.findall(r"^ {1,2}(\d+)  \S", served.story, re.MULTILINE) == [str(number) for number in range(1, 13)]
    for promise in PROMISES:
        assert re.search(rf"^  {promise} +ok ", served.story, re.MULTILINE)
    lines = served.story.splitlines()
    assert (len(lines) <= 60, max(map(len, lines)) <= 100) == (True, True)


def test_readme_shows_what_a_drain_of_the_demo_prints(served: Served) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    [shown] = re.findall(r"```text\n\$ python manage.py drain_deletions --grace-period 0\n(.*?)```", readme, re.DOTALL)

    printed = textwrap.dedent(served.story.split("--grace-period 0\n")[1].split("\n\n")[0])

    assert without_numbers(printed) == without_numbers(shown.rstrip())


def test_demo_ends_non_zero_and_names_the_promises_and_the_files_when_some_are_broken() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--break"], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^  never early +BROKEN .*documents/manual\.pdf", done.stdout, re.MULTILINE)
    assert re.search(r"^  never lost +BROKEN .*documents/contract\.pdf", done.stdout, re.MULTILINE)


def test_served_demo_shows_pending_and_settled_entries_in_its_admin_and_stops_on_ctrl_c(served: Served) -> None:
    [address] = re.findall(r"http://127\.0\.0\.1:\d+/admin/", served.site)
    [password] = re.findall(r"password +(\S+)", served.site)
    [folder] = re.findall(r"PGCLEANUP_DEMO_FILES=(\S+)", served.site)

    pages = {page: admin_page(address, password, page) for page in ("pendingfiledeletion", "settledfiledeletion")}
    served.process.send_signal(signal.SIGINT)
    code = served.process.wait(30)

    assert "documents/manual.pdf" in pages["pendingfiledeletion"]
    assert "documents/contract.pdf" in pages["settledfiledeletion"]
    assert code == 0
    assert not Path(folder).exists()


def admin_page(address: str, password: str, page: str) -> str:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    form = opener.open(f"{address}login/", timeout=10).read().decode()
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    values = {"csrfmiddlewaretoken": token, "username": "demo", "password": password, "next": "/admin/"}
    opener.open(f"{address}login/", urlencode(values).encode(), timeout=10).close()
    text: str = opener.open(f"{address}pgcleanup/{page}/", timeout=10).read().decode()
    return text
