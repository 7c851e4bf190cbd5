"""`manage.py pgcleanup retry` and `cancel`: by name, by filter, or all; never behind a drain's locks."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import models
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.ledger import operating
from tests.drain.support import Stepped, entries, let_go, orphaned, put, settled
from tests.project.models import Archive, Attachment, Document
from tests.support import manage, run_sql, session

FAIL = (
    "UPDATE pending_file_deletion SET attempts = 10, last_error = 'OSError: no', retry_at = now(), exhausted_at = now()"
)
WAITS = "name, attempts, retry_at IS NULL, exhausted_at IS NULL"


def run(*arguments: str) -> tuple[int, str]:
    """Run a subcommand in this process; return its exit code and what it says."""
    out = StringIO()
    try:
        call_command("pgcleanup", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def stamp() -> None:
    """Let a drain see what is pending without doing anything about it."""
    Stepped().until("stamped")


def failed(*names: str, model: type[models.Model] = Document) -> None:
    """Let names go that then failed for good."""
    let_go(*names, model=model)
    stamp()
    run_sql(f"{FAIL} WHERE name = ANY (%s)", [list(names)])


# Which names


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_command_without_a_name_or_a_filter_is_wrong_usage(command: str) -> None:
    code, out = run(command)

    assert code == 2
    assert "Give names, --source, --failed or --all" in out


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_all_with_a_filter_is_wrong_usage(command: str) -> None:
    code, out = run(command, "--all", "--failed")

    assert code == 2
    assert "--all stands for itself" in out


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_unknown_source_is_wrong_usage_and_the_known_ones_are_listed(command: str) -> None:
    code, out = run(command, "--source", "project.document.fil")

    assert code == 2
    assert 'there is no file field "project.document.fil"' in out
    assert "project.document.file" in out


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_name_that_is_not_pending_is_named_and_ends_with_1(command: str) -> None:
    failed("a.pdf")

    code, out = run(command, "a.pdf", "b.pdf")

    assert code == 1
    assert "1 file " in out
    assert "Not pending: b.pdf." in out


@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_source_of_no_installed_model_can_be_named(command: str) -> None:
    failed("a.pdf")
    run_sql("UPDATE pending_file_deletion SET source = 'gone.model.file'")

    code, out = run(command, "--source", "gone.model.file")

    assert (code, out.splitlines()[0][:6]) == (0, "1 file")


# retry


def test_retry_of_a_failed_name_lets_the_next_drain_delete_it() -> None:
    put("a.pdf")
    failed("a.pdf")

    code, out = run("retry", "a.pdf")

    assert (code, out) == (0, "1 file will be tried again by the next drain.\n")
    drain()
    assert settled() == [("a.pdf", "deleted")]


def test_retry_of_a_name_touches_no_other_one() -> None:
    failed("a.pdf", "b.pdf")

    run("retry", "a.pdf")

    assert entries(WAITS) == [("a.pdf", 0, True, True), ("b.pdf", 10, False, False)]


def test_retry_of_what_is_failed_leaves_what_waits_for_its_retry() -> None:
    failed("a.pdf", "b.pdf")
    run_sql("UPDATE pending_file_deletion SET attempts = 1, exhausted_at = NULL WHERE name = 'b.pdf'")

    code, out = run("retry", "--failed")

    assert (code, out) == (0, "1 file will be tried again by the next drain.\n")
    assert entries(WAITS) == [("a.pdf", 0, True, True), ("b.pdf", 1, False, True)]


def test_retry_by_source_takes_all_entries_of_a_name_in_that_storage_and_no_other_storage() -> None:
    failed("a.pdf")
    failed("a.pdf", model=Attachment)
    failed("a.pdf", model=Archive)

    code, _ = run("retry", "--source", "project.attachment.file")

    assert code == 0
    assert entries("source, attempts") == [
        ("project.document.file", 0),
        ("project.attachment.file", 0),
        ("project.archive.file", 10),
    ]


def test_retry_of_all_with_yes_asks_nobody() -> None:
    failed("a.pdf", "b.pdf")

    code, out = run("retry", "--all", "--yes")

    assert (code, out) == (0, "2 files will be tried again by the next drain.\n")


def test_retry_keeps_the_last_error_for_the_history() -> None:
    failed("a.pdf")

    run("retry", "--all", "--yes")

    assert entries("last_error") == [("OSError: no",)]


def test_retry_of_a_name_that_waits_for_no_retry_changes_nothing() -> None:
    let_go("a.pdf")

    code, out = run("retry", "a.pdf")

    assert code == 0
    assert out == "Nothing to retry, the next drain looks at it anyway: a.pdf.\n"


def test_retry_of_nothing_ends_with_0() -> None:
    assert run("retry", "--failed") == (0, "Nothing to retry.\n")


# cancel


def test_cancelled_name_is_settled_as_cancelled_and_its_file_stays() -> None:
    path = orphaned("a.pdf")

    code, out = run("cancel", "a.pdf")

    assert (code, out) == (0, "1 file cancelled: it stays in the storage.\n")
    drain()
    assert settled() == [("a.pdf", "cancelled")]
    assert path.exists()


def test_cancelled_name_waits_out_its_grace_period(settings: Settings) -> None:
    orphaned("a.pdf")
    run("cancel", "a.pdf")
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)

    report = drain()

    assert report.waiting == {"grace_period": 1}
    assert settled() == []


def test_cancel_takes_seen_and_unseen_entries_of_a_name_in_all_columns_of_its_storage() -> None:
    let_go("a.pdf")
    stamp()
    let_go("a.pdf")
    let_go("a.pdf", model=Attachment)
    let_go("a.pdf", model=Archive)

    run("cancel", "--source", "project.attachment.file")

    assert entries("source, stamp_id IS NULL, cancelled_at IS NOT NULL") == [
        ("project.document.file", False, True),
        ("project.document.file", True, True),
        ("project.attachment.file", True, True),
        ("project.archive.file", True, False),
    ]


def test_name_that_failed_for_good_can_be_cancelled() -> None:
    path = put("a.pdf")
    failed("a.pdf")

    run("cancel", "--failed")

    drain()
    assert settled("name, outcome, last_error") == [("a.pdf", "cancelled", "OSError: no")]
    assert path.exists()


def test_name_let_go_once_more_after_a_cancellation_is_deleted() -> None:
    path = orphaned("a.pdf")
    run("cancel", "a.pdf")
    drain()
    let_go("a.pdf")

    drain()

    assert settled() == [("a.pdf", "cancelled"), ("a.pdf", "deleted")]
    assert not path.exists()


def test_cancelling_twice_says_so_and_keeps_the_first_time() -> None:
    let_go("a.pdf")
    run("cancel", "a.pdf")
    first = entries("cancelled_at")

    code, out = run("cancel", "a.pdf")

    assert (code, out) == (0, "Cancelled before: a.pdf.\n")
    assert entries("cancelled_at") == first


def test_cancel_of_all_goes_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating, "_PAGE_SIZE", 2)
    let_go("a.pdf", "b.pdf", "a.pdf", "c.pdf", "d.pdf", "a.pdf")

    code, out = run("cancel", "--all", "--yes")

    assert (code, out) == (0, "4 files cancelled: they stay in the storage.\n")
    assert set(entries("cancelled_at IS NOT NULL")) == {(True,)}


def test_odd_names_can_be_cancelled() -> None:
    names = ['a "b", c.pdf', "back\\slash.pdf", "per%cent.pdf", "{curly}.pdf", "NULL", "long/" + "x" * 1900]
    let_go(*names)

    code, out = run("cancel", *names)

    assert code == 0
    assert out.startswith("6 files cancelled")


# Asking


def test_all_without_yes_asks_nobody_where_nobody_can_answer(process_env: dict[str, str]) -> None:
    let_go("a.pdf")

    done = manage(process_env, "pgcleanup", "cancel", "--all", check=False)

    assert done.returncode == 2
    assert "Add --yes" in done.stderr
    assert entries("cancelled_at") == [(None,)]


@pytest.mark.parametrize(("answer", "code", "cancelled"), [("yes", 0, True), ("no", 1, False), ("", 1, False)])
def test_all_is_done_after_a_yes_only(monkeypatch: pytest.MonkeyPatch, answer: str, code: int, cancelled: bool) -> None:
    let_go("a.pdf", "b.pdf")
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)

    result, _ = run("cancel", "--all")

    assert result == code
    assert asked == ['Keep all of the 2 pending files of database "default", for good? Type yes to do it: ']
    assert entries("cancelled_at IS NOT NULL") == [(cancelled,), (cancelled,)]


# Beside a drain


def test_names_that_a_drain_works_on_are_left_alone_and_named_at_once() -> None:
    let_go("a.pdf", "b.pdf")
    stamp()

    with session(autocommit=False) as drain_of_others:
        drain_of_others.execute("SELECT FROM pending_file_deletion WHERE name = 'a.pdf' FOR UPDATE")
        code, out = run("cancel", "--all", "--yes")

    assert code == 1
    assert "1 file cancelled" in out
    assert "Being worked on right now, so left as it is: a.pdf. Run the command again in a minute." in out
    assert entries("name, cancelled_at IS NOT NULL") == [("a.pdf", False), ("b.pdf", True)]


def test_drain_does_not_wait_for_a_cancellation_and_leaves_its_names() -> None:
    path = orphaned("a.pdf")
    stamp()

    with session(autocommit=False) as cancelling:
        cancelling.execute("UPDATE pending_file_deletion SET cancelled_at = now()")
        drain()
        cancelling.commit()
    drain()

    assert settled() == [("a.pdf", "cancelled")]
    assert path.exists()


def test_cancellation_between_the_pick_and_the_claim_is_seen() -> None:
    path = orphaned("a.pdf")
    drain_of_others = Stepped()
    drain_of_others.until("settled at once", "stamped")

    with session() as cancelling:
        cancelling.execute("UPDATE pending_file_deletion SET cancelled_at = now()")
    drain_of_others.finish()

    assert settled() == [("a.pdf", "cancelled")]
    assert path.exists()


def test_cancelled_name_that_a_row_names_is_kept_for_it() -> None:
    orphaned("a.pdf")
    Document.objects.create(file="a.pdf")
    run("cancel", "a.pdf")

    drain()

    assert settled() == [("a.pdf", "kept")]
