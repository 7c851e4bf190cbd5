"""`manage.py pgcleanup prune`: what is old goes, in small transactions, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests.database.test_append_only import names, settle
from tests.support import run_sql


def run(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("pgcleanup", "prune", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def test_prune_deletes_what_is_older_than_the_retention(settings: Settings) -> None:
    settings.PGCLEANUP_HISTORY_RETENTION = timedelta(days=30)
    settle(1, 29, 31, 400)

    code, out = run()

    assert code == 0
    assert out.startswith("Deleted 2 entries of the history older than 30 days in ")
    assert names() == ["docs/1", "docs/29"]


def test_prune_takes_another_age_for_one_run(settings: Settings) -> None:
    settings.PGCLEANUP_HISTORY_RETENTION = None
    settle(1, 31)

    run("--older-than", "30")

    assert names() == ["docs/1"]


def test_prune_without_a_retention_deletes_nothing_and_says_what_to_type(settings: Settings) -> None:
    settings.PGCLEANUP_HISTORY_RETENTION = None
    settle(4000)

    assert run() == (
        2,
        "PGCLEANUP_HISTORY_RETENTION is None: the history is kept for ever. To prune it all the same: "
        "manage.py pgcleanup prune --older-than DAYS",
    )
    assert names() == ["docs/4000"]


def test_dry_run_counts_and_deletes_nothing() -> None:
    settle(1, 400)

    code, out = run("--dry-run")

    assert (code, out) == (
        0,
        "Dry run, nothing was changed: would delete 1 entry of the history older than 365 days.\n",
    )
    assert names() == ["docs/1", "docs/400"]


def test_each_batch_is_a_transaction_of_its_own() -> None:
    settle(*range(400, 405))

    with CaptureQueriesContext(connection) as queries:
        run("--batch-size", "2")

    assert names() == []
    statements = [query["sql"].split()[0] for query in queries.captured_queries]
    assert statements.count("BEGIN") == statements.count("COMMIT") == 4  # 2, 2, 1, none


def test_young_rows_between_old_ones_stay() -> None:
    settle(400, 1, 401, 2, 402)

    run("--batch-size", "1")

    assert names() == ["docs/1", "docs/2"]


def test_nothing_old_is_nothing_done() -> None:
    settle(1)

    assert run() == (0, "Deleted 0 entries of the history older than 365 days.\n")


@pytest.mark.parametrize("arguments", [("--older-than", "0"), ("--older-than", "99999999999"), ("--batch-size", "0")])
def test_values_that_make_no_sense_are_wrong_usage(arguments: tuple[str, str]) -> None:
    assert run(*arguments)[0] == 2


def test_pruning_leaves_no_right_to_delete_behind() -> None:
    settle(400)

    run()

    assert run_sql("SELECT coalesce(current_setting('pgcleanup.prune_older_than', true), '')") == [("",)]
