"""A project with USE_TZ = False, where the database's times come without an offset: every output works."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.drain.support import orphaned
from tests.support import CHECKOUT, manage, run_sql, with_settings

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def naive_env(process_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return the environment of such a process, with a file that a drain has seen and one that failed."""
    env = with_settings(process_env, tmp_path, USE_TZ=False, TIME_ZONE="Asia/Tokyo")
    manage(env, "pgcleanup", "sync")
    orphaned("failed.pdf")
    manage(env, "drain_deletions")
    run_sql(
        "UPDATE pending_file_deletion SET attempts = 1, last_error = 'no', retry_at = now() + interval '1 day'; "
        "UPDATE file_deletion_stamp SET stamped_at = stamped_at - interval '2 hours'"
    )
    orphaned("waiting.pdf")
    manage(env, "drain_deletions", check=False)
    return env


@pytest.mark.parametrize(
    "command",
    [["drain_deletions"], ["drain_deletions", "--dry-run"], ["pgcleanup", "status"]],
    ids=" ".join,
)
def test_command_tells_times_in_utc(naive_env: dict[str, str], command: list[str]) -> None:
    done = manage(naive_env, *command, check=False)

    assert done.stderr == ""
    assert "UTC, in 1 h 00 min" in done.stdout or "UTC, in 59 min" in done.stdout or "next due " in done.stdout


@pytest.mark.parametrize("command", [["drain_deletions"], ["pgcleanup", "status"]], ids=" ".join)
def test_json_has_times_with_their_offset(naive_env: dict[str, str], command: list[str]) -> None:
    found = json.loads(manage(naive_env, *command, "--json", check=False).stdout)

    left = datetime.fromisoformat(found["next_due"]) - datetime.now(timezone.utc)
    assert found["next_due"].endswith("+00:00")
    assert timedelta(minutes=55) < left < timedelta(hours=1)


def test_admin_shows_its_lists_and_entries(naive_env: dict[str, str]) -> None:
    program = """if True:
        import django; django.setup()
        from django.contrib.auth.models import User
        from django.test import Client
        from pgcleanup.models import PendingFileDeletion
        client = Client()
        client.force_login(User.objects.create_superuser("a"))
        url = "/admin/pgcleanup/pendingfiledeletion/"
        entries = [f"{url}{entry.pk}/change/" for entry in PendingFileDeletion.objects.all()]
        pages = [url, *entries, "/admin/pgcleanup/settledfiledeletion/"]
        print([client.get(page).status_code for page in pages])
    """
    path = f"{CHECKOUT}:{naive_env['PYTHONPATH']}"

    done = subprocess.run(
        [sys.executable, "-c", program], env={**naive_env, "PYTHONPATH": path}, capture_output=True, text=True
    )

    assert done.stdout == "[200, 200, 200, 200]\n", done.stderr
