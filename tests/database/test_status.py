"""`pgcleanup.status`: what is wrong with a database, cheaply and without an exception, and numbers in words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from pgcleanup.ledger import state
from pgcleanup.models import PendingFileDeletion
from pgcleanup.status import Health, age, look, problems
from pgcleanup.status.words import ahead, duration, ended, kept_because, listed, moment, period, plural, shown, size
from pgcleanup.triggers import sync
from tests.drain.support import let_go
from tests.support import Scratch, run_sql

database = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def in_step(transactional_db: None, media_root: Path) -> None:
    """Tell the database where this test has its files."""
    sync("default")


@database
def test_database_in_step_has_no_problems(in_step: None) -> None:
    assert problems("default") == []


@database
def test_problems_take_few_queries_however_many_columns_there_are(in_step: None) -> None:
    let_go("a.pdf")

    with CaptureQueriesContext(connections["default"]) as queries:
        problems("default")

    assert len(queries) <= 14


@database
def test_each_problem_ends_with_what_to_do(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    assert problems("scratch") == [
        "1 table has no trigger, so its files are NOT recorded: public.project_page. "
        "Run: manage.py pgcleanup sync --database scratch"
    ]


@database
def test_database_error_becomes_a_sentence_and_leaves_an_open_transaction_usable(scratch: Scratch) -> None:
    scratch.sql("ALTER TABLE pending_file_deletion RENAME COLUMN recorded_at TO noted_at")

    with transaction.atomic(using="scratch"):
        found = problems("scratch")
        usable = scratch.sql("SELECT 1")

    assert 'The state of file deletions in database "scratch" cannot be read: ' in found[-1]
    assert usable == [(1,)]


@database
def test_database_that_cannot_be_reached_becomes_a_sentence(scratch: Scratch) -> None:
    connections["scratch"].close()
    connections["scratch"].settings_dict = {**connections["scratch"].settings_dict, "PORT": "1"}

    [problem] = problems("scratch")
    assert "cannot be read" in problem
    assert ". Look again: manage.py pgcleanup status --database scratch" in problem


@database
def test_bad_setting_becomes_a_sentence(in_step: None, settings: Settings) -> None:
    settings.PGCLEANUP_MAX_AGE = "1 day"
    let_go("a.pdf")

    assert "PGCLEANUP_MAX_AGE" in problems("default")[0]


@database
def test_missing_ledger_is_no_problem_where_nothing_is_to_be_recorded(empty_scratch: Scratch) -> None:
    assert problems("scratch") == []


@database
def test_age_counts_from_the_recording_plus_the_grace_period(in_step: None) -> None:
    let_go("a.pdf")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '3 hours'")

    oldest = age("default").oldest

    assert oldest is not None
    assert timedelta(hours=2) <= oldest < timedelta(hours=2, minutes=1)


@database
def test_age_leaves_out_what_has_failed_for_good(in_step: None) -> None:
    let_go("a.pdf")
    PendingFileDeletion.objects.update(exhausted_at=datetime.now(timezone.utc))

    assert age("default").oldest is None


@database
def test_age_counts_what_has_failed_for_good_beside_it(in_step: None) -> None:
    let_go("a.pdf")
    run_sql("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10")
    alone = str(age("default"))
    let_go("b.pdf")

    assert alone == "nothing is pending but 1 entry that failed for good"
    assert str(age("default")) == "on time, but 1 entry failed for good"


@database
def test_late_is_over_the_maximum_age(in_step: None, settings: Settings) -> None:
    settings.PGCLEANUP_MAX_AGE = timedelta(hours=1)
    let_go("a.pdf")
    run_sql("UPDATE pending_file_deletion SET recorded_at = now() - interval '3 hours'")

    assert age("default").late


@database
def test_look_counts_by_source_and_state(in_step: None) -> None:
    let_go("a.pdf", "b.pdf")

    status = look("default")

    assert status.waiting == {"grace_period": 2}
    assert status.by_source == (("project.document.file", "grace_period", 2),)


@database
def test_look_counts_a_large_ledger_only_so_far(in_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOOKED_AT", 3)
    let_go(*(f"docs/{number}.txt" for number in range(5)))

    found = look("default")

    assert not found.waiting_complete
    assert sum(names for _, _, names in found.by_source) == 4, "one more tells that there are more"


@database
def test_status_says_where_it_stopped_counting(in_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOOKED_AT", 3)
    let_go(*(f"docs/{number}.txt" for number in range(5)))
    out = StringIO()

    call_command("pgcleanup", "status", stdout=out)

    assert "Pending: at least " in out.getvalue()
    assert "By field, as far as they were counted:" in out.getvalue()


@database
def test_look_names_no_due_time_for_a_file_that_is_not_tried_any_more(in_step: None) -> None:
    let_go("a.pdf")
    call_command("drain_deletions", stdout=StringIO())
    run_sql("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10")

    assert look("default").next_due is None


@database
def test_look_is_broken_while_every_drain_refuses(in_step: None) -> None:
    status = look("default", ["pgcleanup.E001: no."])

    assert status.health is Health.BROKEN
    assert status.problems == ("pgcleanup.E001: no.",)
    assert status.coverage is not None


def test_sizes_are_in_the_unit_that_reads_best() -> None:
    assert [size(value) for value in (0, 1, 999, 1_000, 80_000_000, 3_140_000_000, 999_999)] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.0 KB",
        "80.0 MB",
        "3.1 GB",
        "1.0 MB",
    ]


def test_durations_have_two_units_at_most() -> None:
    values = [timedelta(seconds=s) for s in (0, 59, 60, 3_599, 3_600, 8_040, 90_000, 700_000)]

    assert [duration(value) for value in values] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 00 min",
        "1 h 00 min",
        "2 h 14 min",
        "1 d 01 h",
        "8 d 02 h",
    ]


def test_periods_read_as_somebody_set_them() -> None:
    values = [timedelta(hours=1), timedelta(days=2), timedelta(minutes=90), timedelta(0), timedelta(milliseconds=500)]

    assert [period(value) for value in values] == ["1 hour", "2 days", "90 minutes", "0 seconds", "0.5 seconds"]


def test_times_are_in_utc_with_the_date_where_it_is_not_today() -> None:
    assert moment(datetime(2020, 1, 2, 1, 0, tzinfo=timezone(timedelta(hours=2)))) == "2020-01-01 23:00:00 UTC"
    assert ahead(datetime.now(timezone.utc) + timedelta(hours=1, seconds=1)).endswith(" UTC, in 1 h 00 min")


def test_times_without_an_offset_are_in_the_time_zone_of_the_settings(settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"

    assert moment(datetime(2020, 1, 2, 1, 0)) == "2020-01-01 16:00:00 UTC"
    assert ahead(datetime(2020, 1, 2, 1, 0)) == "2020-01-01 16:00:00 UTC"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("default", "a default of its field"),
        ("keep()", "let go under keep()"),
        ("shop.product.photo", "still named by shop.product.photo"),
    ],
)
def test_reason_of_a_kept_name_is_told_in_words(reason: str, words: str) -> None:
    assert kept_because(reason) == words


def test_counts_have_commas_and_plurals() -> None:
    assert [plural(1, "file"), plural(1_204, "file"), plural(2, "entry", "entries")] == [
        "1 file",
        "1,204 files",
        "2 entries",
    ]


def test_server_message_is_ended_before_another_sentence() -> None:
    assert [ended(text) for text in ("Connection refused", "is gone.", "why?")] == [
        "Connection refused.",
        "is gone.",
        "why?",
    ]


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_names_are_shown_without_what_a_terminal_acts_on() -> None:
    assert shown("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(shown("x" * 1_000)) == 80
