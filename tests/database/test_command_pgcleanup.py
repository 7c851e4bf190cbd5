"""`manage.py pgcleanup status`, `sync` and `uninstall`: what they say, and what they end with."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import Settings

from pgcleanup.models import PendingFileDeletion
from pgcleanup.sql import quote_identifier
from pgcleanup.triggers import inspect, sync
from tests.drain.support import let_go, orphaned
from tests.support import Scratch, manage, run_sql, session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def in_step(transactional_db: None, media_root: Path) -> None:
    """Tell the database where this test has its files."""
    sync("default")


def run(*arguments: str) -> tuple[int, str]:
    """Run a subcommand in this process; return its exit code and its standard output, or its error."""
    out = StringIO()
    try:
        call_command("pgcleanup", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def drain(**options: Any) -> None:
    call_command("drain_deletions", stdout=StringIO(), **options)


def make_old() -> None:
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause"],
        ["resume"],
        ["retry", "--failed"],
        ["cancel", "--failed"],
        ["adopt"],
        ["prune"],
        ["sync"],
        ["uninstall", "--discard-pending"],
    ],
    ids=" ".join,
)
def test_command_that_writes_is_refused_where_nothing_would_be_committed(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)

    code, message = run(*arguments)

    assert code == 1
    assert message.startswith('DATABASES["default"]["AUTOCOMMIT"] is False, so nothing would be committed.')


# status


def test_status_of_an_empty_ledger_is_healthy() -> None:
    code, out = run("status")

    assert code == 0
    assert out.startswith('File deletions in database "default": healthy, nothing is pending.\n')
    assert "all triggers are in place" in out


def test_status_counts_what_waits_by_state_and_field() -> None:
    let_go("a.pdf", "b.pdf")
    drain()

    code, out = run("status")

    assert code == 0
    assert "Pending: 2 files\n  2 in the grace period, next due " in out
    assert "By field:\n  project.document.file  2 in the grace period\n" in out


def test_status_counts_what_was_done_lately(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    orphaned("a.pdf", b"12345")
    drain()

    out = run("status")[1]

    assert "Done in the last 24 hours, the last at " in out
    assert "  1 deleted   5 bytes\n" in out


def test_status_past_the_maximum_age_is_behind_and_ends_with_1() -> None:
    let_go("a.pdf")
    drain()
    make_old()

    code, out = run("status")

    assert code == 1
    assert out.count("is behind, oldest pending file: ") == out.count("oldest pending file") == 1
    assert "more than PGCLEANUP_MAX_AGE (1 day)" in out
    assert "Run: manage.py drain_deletions --database default" in out


def test_status_asks_for_the_schedule_when_no_drain_has_run(settings: Settings) -> None:
    let_go("a.pdf")
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")

    code, out = run("status")

    assert code == 1
    assert "no drain has run since. Has it been scheduled?" in out


def test_status_of_a_trial_raises_no_alarm_by_age(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False
    let_go("a.pdf")
    make_old()

    code, out = run("status")

    assert code == 0
    assert "PGCLEANUP_DELETE_FILES is False: names are recorded and reported, and no file is deleted." in out


def test_status_with_a_name_that_failed_for_good_ends_with_1() -> None:
    let_go("a.pdf")
    drain()
    run_sql(
        "UPDATE pending_file_deletion "
        "SET attempts = 10, last_error = 'OSError: no', retry_at = now(), exhausted_at = now()"
    )

    code, out = run("status")

    assert code == 1
    assert '1 entry in database "default" failed for good (PGCLEANUP_MAX_ATTEMPTS): a person is needed.' in out
    assert out.count("failed for good (") == 1
    assert "Failed, a person is needed: a.pdf\n  OSError: no\n" in out
    assert "Mend what the error says, then: manage.py pgcleanup retry --failed\n" in out
    assert json.loads(run("status", "--json")[1])["on_time"] is False


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "DROP TRIGGER pgcleanup_row ON project_page",
            "1 table has no trigger, so its files are NOT recorded: public.project_page.",
        ),
        (
            "ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row",
            'To enable it: ALTER TABLE "public"."project_page" ENABLE TRIGGER "pgcleanup_row";',
        ),
        ("DELETE FROM file_deletion_column", "do not agree on what the file columns are"),
    ],
    ids=["missing", "disabled", "columns unknown"],
)
def test_status_with_incomplete_coverage_is_broken_and_says_what_mends_it(
    scratch: Scratch, statement: str, sentence: str
) -> None:
    sync("scratch")
    scratch.sql(statement)

    code, out = run("status", "--database", "scratch")

    assert code == 3
    assert ": broken" in out
    assert sentence in out


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row", "NOT all triggers are in place, see above."),
        ("DELETE FROM file_deletion_column", "all triggers are in place."),
    ],
    ids=["disabled", "columns unknown"],
)
def test_status_says_that_triggers_are_not_in_place_only_where_they_are_not(
    scratch: Scratch, statement: str, sentence: str
) -> None:
    sync("scratch")
    scratch.sql(statement)

    [line] = [line for line in run("status", "--database", "scratch")[1].splitlines() if line.startswith("Watched: ")]

    assert line.partition("; ")[2] == sentence


def test_status_advises_migrate_with_the_settings_of_the_site_where_columns_differ(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DELETE FROM file_deletion_column")

    out = run("status", "--database", "scratch")[1]

    assert "Run manage.py migrate with the settings that your site runs with, and restart its services." in out


def test_status_explains_a_file_that_is_old_and_still_in_its_grace_period() -> None:
    let_go("a.pdf")
    drain()
    make_old()

    out = run("status")[1]

    assert "  1 in the grace period, which began with the first drain that saw it, next due " in out


@pytest.mark.parametrize(
    ("setting", "value", "id_"),
    [
        ("PGCLEANUP_DELET_FILES", False, "pgcleanup.E004"),
        ("PGCLEANUP_EXCLUDE", ["project.Nowhere"], "pgcleanup.E003"),
        ("PGCLEANUP_DELETE_FILES", "no", "pgcleanup.E002"),
    ],
)
def test_status_is_broken_while_every_drain_refuses(settings: Settings, setting: str, value: Any, id_: str) -> None:
    setattr(settings, setting, value)

    code, out = run("status")

    assert code == 3
    assert out.startswith('File deletions in database "default": broken')
    assert f"  {id_}: " in out


def test_status_names_tables_whose_trigger_is_outdated(scratch: Scratch) -> None:
    sync("scratch")
    function = inspect("scratch").plan.triggers[0].function.name
    scratch.sql(f"GRANT EXECUTE ON FUNCTION {quote_identifier(function)}() TO PUBLIC")

    code, out = run("status", "--database", "scratch")

    assert code == 3
    assert "1 table has an outdated trigger, so its files may not all be recorded" in out
    assert "Run: manage.py pgcleanup sync --database scratch" in out


def test_status_without_a_ledger_is_broken_and_says_to_migrate(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    code, out = run("status", "--database", "scratch")

    assert code == 3
    assert "has file columns but no ledger, so its files are NOT recorded." in out
    assert "Run: manage.py migrate pgcleanup 0003 --database scratch, then: manage.py migrate pgcleanup" in out


def test_status_of_an_empty_database_is_broken_and_says_to_migrate(empty_scratch: Scratch) -> None:
    code, out = run("status", "--database", "scratch")

    assert code == 3
    assert "has no ledger. Run: manage.py migrate" in out


def test_status_names_the_transaction_that_files_wait_for(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)
    with session(application_name="etl") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        let_go("a.pdf")
        drain()

        out = run("status")[1]

    assert "  1 waiting for open transactions\n" in out
    assert 'application "etl", open for at least ' in out


def test_status_as_json_has_the_age_the_counts_and_the_coverage() -> None:
    let_go("a.pdf")
    drain()

    found = json.loads(run("status", "--json")[1])

    assert found["health"] == "healthy"
    assert found["exit_code"] == 0
    assert found["oldest_pending_seconds"] == 0
    assert found["on_time"] is True
    assert found["waiting"]["grace_period"] == 1
    assert found["by_source"] == [{"source": "project.document.file", "waiting": "grace_period", "names": 1}]
    assert found["coverage"]["complete"] is True
    assert found["coverage"]["missing"] == []


def test_status_format_json_is_the_same_as_json() -> None:
    assert json.loads(run("status", "--format", "json")[1])["health"] == "healthy"


def test_status_with_a_bad_setting_is_broken_and_names_it(settings: Settings) -> None:
    settings.PGCLEANUP_MAX_AGE = 5

    code, out = run("status")

    assert code == 3
    assert "PGCLEANUP_MAX_AGE = 5: a duration is a datetime.timedelta" in out


def test_status_ends_without_a_traceback_in_a_process_of_its_own(process_env: dict[str, str]) -> None:
    manage(process_env, "pgcleanup", "sync")
    let_go("a.pdf")
    make_old()

    done = manage(process_env, "pgcleanup", "status", "-v", "0", check=False)

    assert done.returncode == 1
    assert "behind" in done.stdout
    assert done.stderr == ""


def test_unknown_database_ends_with_2() -> None:
    assert run("status", "--database", "nope")[0] == 2


# sync


def test_sync_check_of_a_database_in_step_ends_with_0() -> None:
    code, out = run("sync", "--check")

    assert code == 0
    assert out.startswith("In step: ")


def test_sync_check_lists_what_differs_and_changes_nothing(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    assert run("sync", "--check", "--database", "scratch") == (1, "public.project_page: trigger missing\n")
    assert run("sync", "--check", "--database", "scratch")[0] == 1


def test_sync_installs_what_is_missing_and_says_so(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    code, out = run("sync", "--database", "scratch")

    assert code == 0
    assert out.startswith("public.project_page: brought up to date\nIn step: ")
    assert run("sync", "--check", "--database", "scratch")[0] == 0


def test_sync_names_a_table_once_whose_triggers_it_removes(scratch: Scratch, settings: Settings) -> None:
    sync("scratch")
    settings.PGCLEANUP_EXCLUDE = ["project.Page"]

    code, out = run("sync", "--database", "scratch")

    assert code == 0
    assert out.startswith(
        "public.project_page: triggers removed\nfunctions: those that nothing needs any more removed\nIn step: "
    )


def test_sync_check_says_that_the_column_table_differs(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DELETE FROM file_deletion_column")

    assert run("sync", "--check", "--database", "scratch") == (
        1,
        "the table of file columns differs from these models and settings\n",
    )


def test_sync_installs_triggers_where_migrate_does_not(scratch: Scratch, settings: Settings) -> None:
    settings.PGCLEANUP_SYNC_ON_MIGRATE = False
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    assert run("sync", "--database", "scratch")[0] == 0


def test_sync_leaves_a_disabled_trigger_to_people_and_ends_with_1(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row")

    code, out = run("sync", "--database", "scratch")

    assert code == 1
    assert 'to enable it: ALTER TABLE "public"."project_page" ENABLE TRIGGER "pgcleanup_row";' in out


def test_sync_names_a_table_that_stays_locked_and_ends_with_1(scratch: Scratch, settings: Settings) -> None:
    settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")
    with scratch.session() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE project_page IN ACCESS SHARE MODE; LOCK TABLE project_page IN ROW EXCLUSIVE MODE")

        code, out = run("sync", "--database", "scratch")

    assert code == 1
    assert "public.project_page: canceling statement due to lock timeout" in out


def test_sync_without_a_ledger_says_to_migrate(empty_scratch: Scratch) -> None:
    code, message = run("sync", "--database", "scratch")

    assert code == 1
    assert "has no ledger. Run: manage.py migrate pgcleanup --database scratch" in message


@pytest.mark.parametrize("arguments", [["sync", "--check"], ["status"]], ids=["sync", "status"])
def test_each_table_is_listed_with_its_columns_and_its_states(
    scratch: Scratch, settings: Settings, arguments: list[str]
) -> None:
    settings.PGCLEANUP_EXCLUDE = ["project.Invoice"]
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page; ALTER TABLE project_place DISABLE TRIGGER USER")

    _, out = run(*arguments, "--database", "scratch", "-v", "2")

    assert {line.strip() for line in out.splitlines()} >= {
        "public.project_document: file, thumb: installed",
        "public.project_page: scan: installed and missing",
        "public.project_place: photo: disabled",
        "public.project_invoice: nothing: stray",
    }


# uninstall


def test_uninstalled_database_says_how_to_come_back_and_how_to_leave(scratch: Scratch) -> None:
    run("uninstall", "--database", "scratch")

    code, out = run("status", "--database", "scratch")

    assert code == 3
    assert 'Database "scratch" has no triggers at all' in out
    assert "or to leave: manage.py migrate pgcleanup zero" in out
    assert re.search(r"^Watched: nothing, of \d+ file columns in \d+ tables\.$", out, re.MULTILINE)


def test_uninstall_refuses_while_files_are_pending(scratch: Scratch) -> None:
    scratch.sql("INSERT INTO project_invoice (scan) VALUES ('a.pdf'); DELETE FROM project_invoice")

    code, message = run("uninstall", "--database", "scratch")

    assert code == 1
    assert "still has pending file deletions. Drain them first" in message


def test_uninstall_that_discards_what_is_pending_lets_migrate_zero_through(scratch: Scratch) -> None:
    scratch.sql("INSERT INTO project_invoice (scan) VALUES ('a.pdf'); DELETE FROM project_invoice")

    code, out = run("uninstall", "--discard-pending", "--database", "scratch")
    scratch.manage("migrate", "pgcleanup", "zero")

    assert code == 0
    assert "1 pending entry discarded" in out
    assert scratch.sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'") == []
    assert scratch.sql("SELECT proname FROM pg_proc WHERE proname LIKE 'pgcleanup%'") == []


def test_uninstall_lets_user_writes_go_on(scratch: Scratch) -> None:
    run("uninstall", "--database", "scratch")

    scratch.sql("INSERT INTO project_invoice (scan) VALUES ('a.pdf'); DELETE FROM project_invoice")

    assert scratch.sql("SELECT count(*) FROM pending_file_deletion") == [(0,)]
