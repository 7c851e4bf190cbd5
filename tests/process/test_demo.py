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
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import pytest

CHECKOUT = Path(__file__).parents[2]
PROMISES = ("never early", "never lost", "at least once", "one visible age")


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.,]*", "N", text)


@cache
def run_demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo", *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )


@contextmanager
def served_demo() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `python -m demo --serve`; yields the process and what it printed until the site was up."""
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
            yield process, "".join(lines)
        finally:
            process.terminate()


def test_demo_shows_every_change_and_that_every_promise_held_in_few_short_lines() -> None:
    done = run_demo()

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^ {1,2}(\d+)  \S", done.stdout, re.MULTILINE) == [str(number) for number in range(1, 13)]
    for promise in PROMISES:
        assert re.search(rf"^  {promise} +ok ", done.stdout, re.MULTILINE)
    lines = done.stdout.splitlines()
    assert (len(lines) <= 60, max(map(len, lines)) <= 100) == (True, True)


def test_readme_shows_what_a_drain_of_the_demo_prints() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    [shown] = re.findall(r"```text\n\$ python manage.py drain_deletions --grace-period 0\n(.*?)```", readme, re.DOTALL)

    printed = textwrap.dedent(run_demo().stdout.split("--grace-period 0\n")[1].split("\n\n")[0])

    assert without_numbers(printed) == without_numbers(shown.rstrip())


@pytest.mark.parametrize(
    ("option", "promise", "file"),
    [("never-early", "never early", "documents/manual.pdf"), ("never-lost", "never lost", "documents/contract.pdf")],
)
def test_demo_ends_non_zero_and_names_the_promise_and_the_file_when_one_is_broken(
    option: str, promise: str, file: str
) -> None:
    done = run_demo("--break", option)

    assert done.returncode == 1
    assert re.search(rf"^  {promise} +BROKEN .*{re.escape(file)}", done.stdout, re.MULTILINE)


def test_served_demo_shows_pending_and_settled_entries_in_its_admin_and_stops_on_ctrl_c() -> None:
    with served_demo() as (process, output):
        [address] = re.findall(r"http://127\.0\.0\.1:\d+/admin/", output)
        [password] = re.findall(r"password +(\S+)", output)
        [folder] = re.findall(r"PGCLEANUP_DEMO_FILES=(\S+)", output)

        pages = {page: admin_page(address, password, page) for page in ("pendingfiledeletion", "settledfiledeletion")}
        process.send_signal(signal.SIGINT)
        code = process.wait(30)

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
