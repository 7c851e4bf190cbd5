"""`manage.py drain_deletions`: what it says, and what it ends with."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import override_settings
from pytest_django import Settings

from pgcleanup.cleanup import keep
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.signals import cleanup_pre_delete
from pgcleanup.triggers import sync
from tests.drain.support import let_go, orphaned, put
from tests.project.models import Document
from tests.support import MANAGE, manage, run_sql, session, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DUE = ["--grace-period", "0"]


def run(*arguments: str, **options: Any) -> tuple[int, str]:
    """Run the command in this process; return its exit code and its standard output, or its error."""
    out = StringIO()
    # The other database has columns on the same storage, so the option alone does not go below the setting.
    lowered = {"PGCLEANUP_GRACE_PERIOD": timedelta(0)} if list(arguments[:2]) == DUE else {}
    try:
        with override_settings(**lowered):
            call_command("drain_deletions", *arguments, stdout=out, **options)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def report(*arguments: str) -> dict[str, Any]:
    """Run the command with --json, and return what it printed."""
    return dict(json.loads(run(*arguments, "--json")[1]))


@pytest.fixture(autouse=True)
def in_step(transactional_db: None, media_root: Path) -> None:
    """Tell the database where this test has its files."""
    sync("default")


@pytest.fixture
def receivers() -> Iterator[Callable[[Any], None]]:
    """Connect a pre receiver for the length of the test."""
    connected: list[Any] = []

    def connect(receiver: Any) -> None:
        cleanup_pre_delete.connect(receiver, weak=False)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        cleanup_pre_delete.disconnect(receiver)


@pytest.fixture
def eager_env(process_env: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process whose files are due at once."""
    return {**process_env, "DJANGO_SETTINGS_MODULE": "tests.database.eager_settings"}


# What it says


def test_first_drain_says_that_nothing_is_deleted_yet_and_when_it_will_be() -> None:
    orphaned("docs/report.pdf")

    code, out = run()

    assert code == 0
    assert out.startswith(
        "Nothing deleted yet: 1 file waits out the grace period of 1 hour (PGCLEANUP_GRACE_PERIOD).\n"
    )
    assert re.search(r"^  docs/report\.pdf   due (\S+ )?\d\d:\d\d:\d\d UTC, in 1 h 00 min$", out, re.MULTILINE)


def test_first_drain_says_what_is_watched_and_what_to_do_next() -> None:
    code, out = run()

    assert code == 0
    assert re.search(
        r"First drain of this database\. \d+ file columns in \d+ tables are watched, all triggers are", out
    )
    assert "Next: run this command every few minutes, for example from cron: */5 * * * * manage.py drain_dele" in out


def test_second_drain_does_not_introduce_itself_again() -> None:
    orphaned("a.pdf")
    run()

    assert "First drain" not in run()[1]


def test_drain_says_how_many_files_and_bytes_it_deleted() -> None:
    for number in range(3):
        orphaned(f"{number}.bin", b"x" * 500)

    code, out = run(*DUE)

    assert code == 0
    assert re.match(r"Deleted 3 files \(1\.5 KB\) in \d+\.\d s\.\n", out)


def test_drain_lists_outcomes_and_their_reasons() -> None:
    orphaned("gone.bin").unlink()
    orphaned("deleted.bin")
    put("shared.bin")
    Document.objects.create(file="shared.bin")
    let_go("shared.bin", "../etc")
    with keep():
        let_go("kept.bin")

    out = run(*DUE)[1]

    assert re.search(r"^  deleted   1   7 bytes$", out, re.MULTILINE)
    assert re.search(r"^  kept      2   1 still named by another row, 1 let go under keep\(\)$", out, re.MULTILINE)
    assert re.search(r"^  absent    1   was already gone$", out, re.MULTILINE)
    assert re.search(r"^  rejected  1   not the name .*: \.\./etc \(leads out of the storage\)$", out, re.MULTILINE)


def test_drain_names_the_transaction_that_files_wait_for() -> None:
    with session(application_name="nightly-export") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        orphaned("held.pdf")
        run(*DUE)
        pid = other.info.backend_pid

        code, out = run(*DUE)

    assert code == 0
    assert out.startswith("Nothing deleted: 1 file is past its grace period but waits for 1 open transaction, which")
    assert f'  pid {pid}, user postgres, application "nightly-export", open for at least ' in out
    assert (
        f"It goes on the first drain after it ends. To look: SELECT * FROM pg_stat_activity WHERE pid = {pid};" in out
    )


def test_drain_that_deletes_some_files_still_names_the_transaction_that_others_wait_for() -> None:
    orphaned("free.pdf")
    run()
    with session(application_name="etl") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        orphaned("held.pdf")

        out = run(*DUE)[1]

    assert "Deleted 1 file" in out
    assert "1 file is past its grace period but waits for 1 open transaction" in out


def test_wait_lets_an_open_transaction_end() -> None:
    with session() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        path = orphaned("held.pdf")
        other.execute("SET LOCAL idle_in_transaction_session_timeout = 500")

        code, _ = run(*DUE, "--wait", "20")

    assert code == 0
    assert not path.exists()


def test_storage_that_is_gone_is_named_and_ends_with_1(media_root: Path) -> None:
    orphaned("a.pdf")
    media_root.rename(media_root.with_name("unmounted"))

    code, out = run(*DUE)

    assert code == 1
    assert out.startswith(f"Storage FileSystemStorage ({media_root}) cannot be trusted: its folder")
    assert "Nothing is lost: the next drains retry" in out
    assert PendingFileDeletion.objects.count() == 1


def test_storage_that_is_gone_is_believed_with_accept_absent(media_root: Path) -> None:
    orphaned("a.pdf")
    media_root.rename(media_root.with_name("unmounted"))

    code, out = run(*DUE, "--accept-absent")

    assert code == 0
    assert "  absent  1   was already gone\n" in out
    assert SettledFileDeletion.objects.get().outcome == "absent"


def test_storage_that_is_gone_is_named_again_by_the_next_drain(media_root: Path) -> None:
    orphaned("a.pdf")
    media_root.rename(media_root.with_name("unmounted"))
    run(*DUE)

    errors = report()["errors"]

    assert [(group["names"], group["example"], group["failed"]) for group in errors] == [(1, "a.pdf", False)]
    assert errors[0]["error"].startswith("its folder ")


def test_prepared_transaction_is_named_with_what_ends_it() -> None:
    orphaned("held.pdf")
    run()
    with session() as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO project_article (picture) VALUES ('held.pdf')")
        other.execute("PREPARE TRANSACTION 'payment'")
        try:
            code, out = run(*DUE)
        finally:
            other.execute("ROLLBACK PREPARED 'payment'")

    assert code == 0
    assert "Nothing deleted: 1 file is past its grace period but waits for 1 prepared transaction" in out
    assert "  prepared transaction payment of postgres: nothing is deleted before COMMIT PREP" in out


@pytest.mark.parametrize("options", [("--dry-run",), ()], ids=["dry run", "may delete nothing"])
def test_forecast_says_that_files_are_too_young(settings: Settings, options: tuple[str, ...]) -> None:
    settings.PGCLEANUP_DELETE_FILES = bool(options)
    put("young.txt", age=timedelta(0))
    let_go("young.txt")

    out = run("--grace-period", "0", *options)[1]

    assert "ould delete no file" in out
    assert "Left: 1 file too young to delete (PGCLEANUP_UPLOAD_WINDOW). On time.\n" in out


def test_missing_trigger_is_named_and_ends_with_1() -> None:
    run_sql("DROP TRIGGER pgcleanup_row ON project_page")
    try:
        code, out = run()
    finally:
        call_command("pgcleanup", "sync", stdout=StringIO())

    assert code == 1
    assert "1 table is not watched as it should be, so files there may NOT be recorded:\n" in out
    assert "  public.project_page: trigger missing\n  Run: manage.py pgcleanup sync\n" in out


def test_missing_trigger_of_a_reviewed_schema_gets_a_migration(settings: Settings) -> None:
    settings.PGCLEANUP_SYNC_ON_MIGRATE = False
    run_sql("DROP TRIGGER pgcleanup_row ON project_page")
    try:
        _, out = run()
    finally:
        call_command("pgcleanup", "sync", stdout=StringIO())

    assert "  Run: manage.py pgcleanup makemigration APP_LABEL, then: manage.py migrate\n" in out


def test_disabled_trigger_is_named_with_the_statement_that_enables_it() -> None:
    run_sql("ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row")
    try:
        code, out = run()
    finally:
        run_sql("ALTER TABLE project_page ENABLE TRIGGER pgcleanup_row")

    assert code == 1
    assert "  public.project_page: trigger disabled\n  To enable it again: ALTER TABLE " in out
    assert 'ALTER TABLE "public"."project_page" ENABLE TRIGGER "pgcleanup_row";\n' in out
    assert "pgcleanup sync" not in out


def test_file_that_is_too_young_is_named_with_the_time_when_it_is_due() -> None:
    put("docs/young.pdf", age=timedelta(seconds=10))
    let_go("docs/young.pdf")

    code, out = run(*DUE)

    assert code == 0
    assert "Left: 1 file too young to delete (PGCLEANUP_UPLOAD_WINDOW). On time.\n" in out
    assert re.search(r"^  docs/young\.pdf   due (\S+ )?\d\d:\d\d:\d\d UTC, in (4\d|50) s$", out, re.MULTILINE)


def test_file_that_failed_for_good_is_left_without_a_due_time() -> None:
    orphaned("a.pdf")
    run()
    run_sql("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10, last_error = 'no'")

    code, out = run()

    assert code == 1
    assert "Left: 1 file failed for good.\n" in out
    assert "Mend what the error says, then: manage.py pgcleanup retry --failed\n" in out
    assert report()["next_due"] is None


def test_drain_that_is_behind_does_not_say_on_time() -> None:
    put("young.pdf", age=timedelta(seconds=10))
    let_go("young.pdf")
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")

    out = run(*DUE)[1]

    assert "Behind: " in out
    assert "On time" not in out


def test_old_file_that_waits_out_its_grace_period_is_explained() -> None:
    orphaned("a.pdf")
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")

    assert " It waits on, since that began with the first drain that saw it. Details: " in run()[1]


def test_source_that_no_model_has_is_named_and_its_entry_stays() -> None:
    orphaned("a.pdf")
    PendingFileDeletion.objects.update(source="shop.gone.file")

    _, out = run(*DUE)

    assert "no installed model has any more: shop.gone.file" in out
    assert "1 file of a field that no installed model has" in out
    assert PendingFileDeletion.objects.count() == 1


def test_oldest_age_over_the_limit_is_said_out_loud() -> None:
    orphaned("a.pdf")
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")

    _, out = run("-v", "0")

    assert out.startswith("Behind: the oldest pending file is ")
    assert "PGCLEANUP_MAX_AGE (1 day)" in out


def test_verbosity_0_prints_nothing_when_all_is_well() -> None:
    orphaned("a.pdf")

    assert run(*DUE, "-v", "0") == (0, "")
    assert SettledFileDeletion.objects.get().outcome == "deleted"


def test_verbosity_0_prints_problems(media_root: Path) -> None:
    orphaned("a.pdf")
    media_root.rename(media_root.with_name("unmounted"))

    code, out = run(*DUE, "-v", "0")

    assert code == 1
    assert "cannot be trusted" in out
    assert "Left:" not in out


def test_verbosity_2_prints_each_name() -> None:
    orphaned("a.pdf")

    assert "deleted       a.pdf   7 bytes\n" in run(*DUE, "-v", "2")[1]


def test_control_characters_of_a_name_are_not_sent_to_the_terminal() -> None:
    let_go("new\nline\x1b[2J.pdf")

    out = run(*DUE, "-v", "2")[1]

    assert "\x1b" not in out
    assert r"'new\nline\x1b[2J.pdf'" in out


# Dry run and trial


def test_dry_run_says_what_would_become_of_each_name_and_changes_nothing() -> None:
    path = orphaned("a.pdf")
    let_go("../x")
    before = list(PendingFileDeletion.objects.order_by("id").values())

    code, out = run("--dry-run")

    assert code == 0
    assert re.search(r"^would delete  a\.pdf   7 bytes; due .* UTC, in 1 h 00 min$", out, re.MULTILINE)
    assert re.search(r"^would reject  \.\./x   leads out of the storage", out, re.MULTILINE)
    assert "Dry run, nothing was changed: would delete 1 file (7 bytes), not due yet." in out
    assert path.exists()
    assert list(PendingFileDeletion.objects.order_by("id").values()) == before


def test_dry_run_counts_the_files_that_are_not_due_yet() -> None:
    orphaned("due.pdf")
    run()
    run_sql("UPDATE file_deletion_stamp SET stamped_at = now() - interval '2 hours'")
    orphaned("new.pdf")

    assert "would delete 2 files (14 bytes), 1 of them not due yet.\n" in run("--dry-run")[1]


def test_dry_run_calls_a_file_that_is_not_there_absent() -> None:
    orphaned("there.pdf")
    let_go("gone.pdf")

    out = run("--dry-run")[1]

    assert re.search(r"^absent        gone\.pdf   due ", out, re.MULTILINE)
    assert re.search(r"^  absent +1 ", out, re.MULTILINE)


def test_dry_run_names_what_an_open_transaction_holds() -> None:
    with session() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        orphaned("held.pdf")
        run(*DUE)

        out = run(*DUE, "--dry-run")[1]

    assert "would wait    held.pdf   held by an open transaction" in out


def test_dry_run_of_a_young_file_that_will_be_old_enough_says_delete() -> None:
    put("young.pdf", age=timedelta(0))
    let_go("young.pdf")

    assert "would delete  young.pdf" in run("--dry-run")[1]


def test_dry_run_as_json_has_each_file() -> None:
    orphaned("a.pdf")

    found = report("--dry-run")

    assert [(file["name"], file["outcome"]) for file in found["files"]] == [("a.pdf", "deleted")]
    assert found["dry_run"] is True


def test_trial_says_plainly_that_nothing_is_deleted(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False
    path = orphaned("a.pdf")

    code, out = run(*DUE)

    assert code == 0
    assert "Would delete 1 file (7 bytes); nothing is deleted because PGCLEANUP_DELETE_FILES is False." in out
    assert path.exists()
    assert report(*DUE)["delete_files"] is False


def test_trial_raises_no_alarm_by_age(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False
    orphaned("a.pdf")
    PendingFileDeletion.objects.update(recorded_at="2020-01-01T00:00:00Z")

    assert run("-v", "0") == (0, "")


# For machines


def test_json_has_all_counts_with_their_zeros_the_age_and_the_exit_code() -> None:
    orphaned("a.pdf", b"12345")
    let_go("b.pdf")

    found = report(*DUE)

    assert found["counts"] == {
        "deleted": 1,
        "absent": 1,
        "kept": 0,
        "rejected": 0,
        "cancelled": 0,
        "postponed": 0,
        "exhausted": 0,
    }
    assert found["bytes_deleted"] == 5
    assert found["exit_code"] == 0
    assert found["oldest_pending_seconds"] is None
    assert found["seconds"] > 0
    assert not any(found["waiting"].values())


def test_json_tells_what_waits_and_how_old_it_is() -> None:
    orphaned("a.pdf")

    found = report()

    assert found["waiting"]["grace_period"] == 1
    assert found["oldest_pending_seconds"] == 0
    assert found["next_due"]


def test_json_names_the_holders() -> None:
    with session(application_name="etl") as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        orphaned("held.pdf")
        run(*DUE)

        pid = other.info.backend_pid

        holder = report(*DUE)["holders"][0]

    assert (holder["application"], holder["pid"]) == ("etl", pid)


# Wrong usage and refusal


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--limit", "-3"], "--limit must be at least 1, not -3"),
        (["--grace-period", "-1"], "--grace-period takes a number of seconds from 0 to 3153600000, which is 100 years"),
        (["--grace-period", "nan"], "which is 100 years, not nan"),
        (["--grace-period", "3153600001"], "not 3153600001"),
        (["--wait", "inf"], "--wait takes a number of seconds from 0 to 3153600000, which is 100 years, not inf"),
        (["--database", "nope"], 'there is no database "nope" in DATABASES'),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: list[str], sentence: str) -> None:
    code, message = run(*arguments)

    assert code == 2
    assert sentence in message


def test_wrong_usage_as_json_is_json() -> None:
    found = report("--limit", "0")

    assert found == {"exit_code": 2, "error": "--limit must be at least 1, not 0"}


def test_limit_counts_names() -> None:
    for number in range(3):
        orphaned(f"{number}.pdf")

    code, out = run(*DUE, "--limit", "2")

    assert code == 0
    assert out.startswith("Deleted 2 files")
    assert "Left: 1 file due now" in out


def test_drain_inside_a_transaction_is_refused_with_3() -> None:
    with transaction.atomic():
        code, message = run()

    assert code == 3
    assert "cannot run inside a transaction" in message


def test_setting_that_makes_no_sense_is_refused_with_3(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = 3600
    path = orphaned("a.pdf")

    code, message = run()

    assert code == 3
    assert "pgcleanup.E002" in message
    assert "timedelta" in message
    assert path.exists()


def test_longest_durations_are_durations_like_any_other(settings: Settings) -> None:
    for name in ("GRACE_PERIOD", "UPLOAD_WINDOW", "MAX_AGE", "SCAN_INTERVAL", "HISTORY_RETENTION"):
        setattr(settings, f"PGCLEANUP_{name}", timedelta(days=36_500))
    path = orphaned("a.pdf")

    drained = [run()[0], run("--dry-run")[0], run("--grace-period", "3153600000")[0]]

    call_command("pgcleanup", "status", stdout=StringIO())
    call_command("migrate", verbosity=0)
    assert drained == [0, 0, 0]
    assert path.exists()


def test_migrate_comes_to_its_end_with_a_duration_that_leads_to_no_moment(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = timedelta.max
    orphaned("a.pdf")

    call_command("migrate", verbosity=1, skip_checks=True, stdout=StringIO())


def test_unknown_setting_is_refused_with_3_and_the_one_that_was_meant(settings: Settings) -> None:
    settings.PGCLEANUP_DELET_FILES = False
    path = orphaned("a.pdf")

    code, message = run()

    assert code == 3
    assert "pgcleanup.E004: There is no setting PGCLEANUP_DELET_FILES. Did you mean PGCLEANUP_DELETE_FILES?" in message
    assert path.exists()


def test_label_that_names_nothing_is_refused_with_3(settings: Settings) -> None:
    settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.pictur"]

    code, message = run()

    assert code == 3
    assert "project.Article.pictur" in message


def test_silenced_error_does_not_refuse(settings: Settings) -> None:
    settings.PGCLEANUP_EXCLUDE = ["project.Nowhere"]
    settings.SILENCED_SYSTEM_CHECKS = ["pgcleanup.E003"]

    assert run()[0] == 0


def test_storage_of_a_column_that_the_database_does_not_know_is_refused_with_3() -> None:
    path = orphaned("a.pdf")
    run_sql("DELETE FROM file_deletion_column WHERE source = 'project.document.file'")
    try:
        code, out = run(*DUE)
    finally:
        call_command("pgcleanup", "sync", stdout=StringIO())

    assert code == 3
    assert "project.document.file is unknown to the database" in out
    assert "Run manage.py migrate" in out
    assert path.exists()


def test_lost_connection_ends_with_1_and_loses_nothing(receivers: Callable[[Any], None]) -> None:
    orphaned("a.pdf")
    pid = run_sql("SELECT pg_backend_pid()")[0][0]

    def kill(**kwargs: Any) -> None:
        with session() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    receivers(kill)

    code, message = run(*DUE)
    connections["default"].close()

    assert code == 1
    assert "0 names were settled before. Nothing is lost" in message
    assert PendingFileDeletion.objects.count() == 1


def test_receiver_that_raises_is_named_and_ends_with_1(receivers: Callable[[Any], None]) -> None:
    path = orphaned("a.pdf")

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("the archive is full")

    receivers(fail)

    code, out = run(*DUE)

    assert code == 1
    assert "  retrying  1   could not be deleted, and will be tried again\n" in out
    assert re.search(r"^Retrying: a\.pdf, next at .* UTC\n  RuntimeError: the archive is full$", out, re.MULTILINE)
    assert path.exists()


def test_name_without_attempts_left_is_said_to_need_a_person(
    receivers: Callable[[Any], None], settings: Settings
) -> None:
    settings.PGCLEANUP_MAX_ATTEMPTS = 1
    orphaned("a.pdf")

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("the archive is full")

    receivers(fail)

    code, out = run(*DUE)

    assert code == 1
    assert "  failed  1   could not be deleted, and no attempt is left\n" in out
    assert "Failed, a person is needed: a.pdf\n  RuntimeError: the archive is full\n" in out


# In a process of its own


def test_exit_code_reaches_the_shell_without_a_traceback(eager_env: dict[str, str], media_root: Path) -> None:
    orphaned("a.pdf")
    media_root.rename(media_root.with_name("unmounted"))

    done = manage(eager_env, "drain_deletions", check=False)

    assert done.returncode == 1
    assert "cannot be trusted" in done.stdout
    assert done.stderr == ""


def test_refusal_as_json_leaves_only_json_on_stdout(process_env: dict[str, str]) -> None:
    url = process_env["DATABASE_URL"].rsplit("/", 1)[0] + "/postgres"

    done = manage({**process_env, "DATABASE_URL": url}, "drain_deletions", "--json", check=False)

    assert done.returncode == 3
    assert json.loads(done.stdout)["exit_code"] == 3
    assert "has no ledger. Run: manage.py migrate" in json.loads(done.stdout)["error"]


def test_terminal_shows_a_progress_bar(eager_env: dict[str, str]) -> None:
    pytest.importorskip("tqdm")
    orphaned("a.pdf")

    shown = on_terminal(eager_env, "drain_deletions")

    assert "Deleting:" in shown
    assert "Deleted 1 file" in shown


def test_no_progress_leaves_the_bar_out_on_a_terminal(eager_env: dict[str, str]) -> None:
    orphaned("a.pdf")

    shown = on_terminal(eager_env, "drain_deletions", "--no-progress")

    assert "Deleting" not in shown
    assert "Deleted 1 file" in shown


def test_drain_without_tqdm_works_on_a_terminal(eager_env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "hidden" / "tqdm").mkdir(parents=True)
    (tmp_path / "hidden" / "tqdm" / "__init__.py").write_text("raise ImportError('hidden')")
    orphaned("a.pdf")

    shown = on_terminal({**eager_env, "PYTHONPATH": str(tmp_path / "hidden")}, "drain_deletions")

    assert "Deleted 1 file" in shown


def test_interrupted_drain_ends_without_a_traceback(eager_env: dict[str, str]) -> None:
    with session() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        orphaned("held.pdf")
        command = [sys.executable, str(MANAGE), "drain_deletions", "--wait", "60"]
        with (
            heeded_sigint(),
            subprocess.Popen(command, env=eager_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        ):
            until(lambda: bool(run_sql("SELECT id FROM file_deletion_stamp")))
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=30)

    assert process.returncode == 130
    assert output.decode().endswith(
        "Stopped by SIGINT before the end. Nothing is lost: the next drain goes on from here.\n"
    )
    assert error.decode() == ""


@contextmanager
def heeded_sigint() -> Iterator[None]:
    """Let a process that is started here heed SIGINT, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def on_terminal(env: dict[str, str], *arguments: str) -> str:
    """Run a management command with a terminal of 100 columns, and return what it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen([sys.executable, str(MANAGE), *arguments], env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux ends a terminal so
                break
            if not part:
                break
            shown += part
        os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()
