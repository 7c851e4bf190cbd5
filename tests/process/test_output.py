"""An output that cannot be written changes nothing of what a command does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgcleanup.triggers import sync
from tests.faults.support import DRAIN, Site
from tests.support import MANAGE, run_sql

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

# More than fits into the buffers of a pipe's writer, so that it hears of an error in its midst.
LONG = "a long name, " * 10


@pytest.fixture
def site(process_env: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    """Return a site whose database knows where its files are."""
    made = Site.of(process_env, tmp_path)
    sync("default", triggers=False)
    yield made
    made.close()


def run_into(site: Site, descriptor: int, command: list[str], **more: str) -> tuple[int, str]:
    """Run a command with its standard output there, and return its exit code and what it said on standard error."""
    process = site.start(command, descriptor, **more)
    os.close(descriptor)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def nobody_reads() -> int:
    """Return the end of a pipe to write to, whose reader has gone, as `| head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_drain_whose_reader_has_gone_deletes_on_and_says_nothing(site) -> None:
    """Nor does a receiver that prints raise."""
    site.let_go(200, LONG)
    environment = {"PGCLEANUP_TEST_BATCH": "50", "PGCLEANUP_TEST_PRINT": "yes"}

    ended = run_into(site, nobody_reads(), [*DRAIN, "-v", "2"], **environment)

    assert ended == (0, "")
    assert site.stored() == set()
    assert run_sql("SELECT outcome, count(*) FROM settled_file_deletion GROUP BY 1") == [("deleted", 200)]
    site.assert_told_once()


def test_drain_whose_output_fills_the_disk_deletes_on_and_says_so(site) -> None:
    site.let_go(200, LONG)

    code, errors = run_into(site, os.open("/dev/full", os.O_WRONLY), [*DRAIN, "-v", "2"], PGCLEANUP_TEST_BATCH="50")

    assert code == 1
    assert errors == "CommandError: the output could not be written: [Errno 28] No space left on device\n"
    assert site.stored() == set()
    site.assert_told_once()


@pytest.mark.parametrize("command", ["status", "export"])
def test_report_whose_reader_has_gone_ends_without_a_traceback(site, command) -> None:
    site.let_go(200, LONG)

    _, errors = run_into(site, nobody_reads(), [sys.executable, str(MANAGE), "pgcleanup", command])

    assert errors == ""
