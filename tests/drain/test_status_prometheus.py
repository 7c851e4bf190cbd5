"""`manage.py pgcleanup status --format prometheus`."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.ledger import control
from tests.drain.support import let_go, orphaned
from tests.support import run_sql

SAMPLE = re.compile(r'([a-z_0-9]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+)\} (-?[0-9.e+]+)')


def text() -> str:
    out = StringIO()
    with suppress(CommandError):  # what is not healthy ends with 1 or 3
        call_command("pgcleanup", "status", "--format", "prometheus", stdout=out)
    return out.getvalue()


def samples() -> dict[str, float]:
    """Return the samples by name and labels, less that of the database."""
    found = {}
    for line in text().splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            labels = match[2].removeprefix('database="default"').removeprefix(",")
            found[match[1] + (f"{{{labels}}}" if labels else "")] = float(match[3])
    return found


def test_every_metric_has_its_help_and_type_before_its_samples() -> None:
    lines = text().splitlines()
    assert lines[0].startswith("# HELP pgcleanup_health ")
    assert lines[1] == "# TYPE pgcleanup_health gauge"
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]

    assert len(names) == len(set(names))
    assert {line.split("{")[0] for line in lines if not line.startswith("#")} == set(names)
    assert text().endswith("\n")


def test_counts_are_by_what_files_wait_for(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    let_go("a.txt", "b.txt")

    found = samples()

    assert found['pgcleanup_pending_files{waiting="grace_period"}'] == 2
    assert found['pgcleanup_pending_files{waiting="failed"}'] == 0
    assert found["pgcleanup_oldest_pending_seconds"] == 0
    assert found['pgcleanup_health{state="healthy"}'] == 1


def test_what_was_done_lately_is_there() -> None:
    orphaned("a.txt", b"12345")
    drain()

    found = samples()

    assert found['pgcleanup_settled_entries_last_24_hours{outcome="deleted"}'] == 1
    assert found["pgcleanup_deleted_bytes_last_24_hours"] == 5
    assert found["pgcleanup_last_settled_timestamp_seconds"] > 1_700_000_000
    assert found["pgcleanup_last_drain_timestamp_seconds"] > 1_700_000_000


def test_one_that_is_behind_says_how_far() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '10 days'")

    found = samples()

    assert found["pgcleanup_oldest_pending_seconds"] == pytest.approx(864_000, abs=3600)
    assert found['pgcleanup_health{state="healthy"}'] == 0


def test_pause_is_told() -> None:
    control.pause("default", "ann")

    assert samples()["pgcleanup_paused"] == 1


def test_database_without_a_readable_state_is_broken_and_says_nothing_else(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = 5

    assert set(samples()) == {
        'pgcleanup_health{state="healthy"}',
        'pgcleanup_health{state="behind"}',
        'pgcleanup_health{state="broken"}',
        "pgcleanup_problems",
    }
