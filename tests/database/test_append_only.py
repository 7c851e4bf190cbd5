"""The history stays as it was written: tried with SQL by hand."""

from __future__ import annotations

from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction

from pgcleanup.models import SettledFileDeletion
from pgcleanup.status import find_problems
from pgcleanup.triggers import sync
from tests.support import Scratch, run_sql, session

SETTLE = """
INSERT INTO settled_file_deletion
       (id, source, name, operation, transaction_id, db_user, application_name, attempts, outcome, settled_at)
SELECT i, 'project.document.file', 'docs/' || i, 'DELETE', 1, 'app', 'tests', 0, 'deleted',
       clock_timestamp() - make_interval(days => i)
  FROM unnest(%s::int[]) AS i
"""
NAMES = "SELECT name FROM settled_file_deletion ORDER BY id"
REFUSED = "refused: the history stays as it was written"


def settle(*days_ago: int) -> None:
    """Write history that was settled so many days ago; the days are the ids, too."""
    run_sql(SETTLE, [list(days_ago)])


def names() -> list[str]:
    return [name for (name,) in run_sql(NAMES)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE settled_file_deletion SET name = 'another'",
        "UPDATE settled_file_deletion SET context = '{}' WHERE id = 1",
        "DELETE FROM settled_file_deletion",
        "DELETE FROM settled_file_deletion WHERE settled_at < now() - interval '100 days'",
        "INSERT INTO settled_file_deletion SELECT * FROM settled_file_deletion WHERE id = 1"
        " ON CONFLICT (id) DO UPDATE SET name = 'another'",
        "SET LOCAL pgcleanup.prune_older_than = '100 days';"
        " UPDATE settled_file_deletion SET name = 'another' WHERE id = 200",
        "SET LOCAL pgcleanup.prune_older_than = '-1 day'; DELETE FROM settled_file_deletion",
    ],
    ids=["update", "update of one", "delete", "delete of old", "upsert", "update while pruning", "negative age"],
)
def test_changing_the_history_is_refused(statement: str) -> None:
    settle(1, 200)

    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        run_sql(statement)

    assert names() == ["docs/1", "docs/200"]


@pytest.mark.django_db
def test_changing_the_history_by_the_orm_is_refused() -> None:
    settle(1)

    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        SettledFileDeletion.objects.update(name="another")
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        SettledFileDeletion.objects.all().delete()

    assert names() == ["docs/1"]


@pytest.mark.django_db
def test_refusal_names_the_entry_and_says_what_to_type() -> None:
    settle(7)

    with pytest.raises(DatabaseError) as refused, transaction.atomic():
        run_sql("DELETE FROM settled_file_deletion")

    cause = refused.value.__cause__
    assert isinstance(cause, psycopg.errors.InsufficientPrivilege)
    assert cause.diag.message_primary == (f"pgcleanup: DELETE of public.settled_file_deletion is {REFUSED}")
    assert (cause.diag.message_detail or "").startswith("Entry 7, settled at ")
    assert "manage.py pgcleanup prune" in (cause.diag.message_hint or "")
    assert "ALTER TABLE public.settled_file_deletion DISABLE TRIGGER settled_file_deletion_append_only;" in (
        cause.diag.message_hint or ""
    )


@pytest.mark.django_db
def test_delete_takes_what_is_older_than_its_transaction_says() -> None:
    settle(1, 200, 300)

    with transaction.atomic():
        run_sql("SET LOCAL pgcleanup.prune_older_than = '250 days'")
        run_sql("DELETE FROM settled_file_deletion WHERE id = 300")

    assert names() == ["docs/1", "docs/200"]


@pytest.mark.django_db
def test_delete_of_what_is_younger_than_its_transaction_says_is_refused() -> None:
    settle(1, 200, 300)

    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        run_sql("SET LOCAL pgcleanup.prune_older_than = '250 days'; DELETE FROM settled_file_deletion")

    assert names() == ["docs/1", "docs/200", "docs/300"]


@pytest.mark.django_db(transaction=True)
def test_right_to_prune_ends_with_its_transaction() -> None:
    settle(300)
    with session() as other:
        other.execute("BEGIN; SET LOCAL pgcleanup.prune_older_than = '1 day'; COMMIT")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("DELETE FROM settled_file_deletion")

    assert names() == ["docs/300"]


@pytest.mark.django_db
def test_writing_a_row_as_loaddata_does_is_no_change() -> None:
    settle(1)
    entry = SettledFileDeletion.objects.get()
    entry.pk = 2

    entry.save_base(raw=True)  # an UPDATE that finds nothing, then an INSERT

    assert names() == ["docs/1", "docs/1"]


@pytest.mark.django_db(transaction=True)
def test_truncate_and_flush_are_not_refused() -> None:
    settle(1)
    run_sql("TRUNCATE settled_file_deletion")
    settle(2)

    call_command("flush", interactive=False, verbosity=0)

    assert names() == []


@pytest.fixture
def unguarded(scratch: Scratch) -> Scratch:
    """Give the test a database in step but for the trigger of its history, which somebody dropped."""
    sync("scratch")
    scratch.sql("DROP TRIGGER settled_file_deletion_append_only ON settled_file_deletion")
    return scratch


def run(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("pgcleanup", *arguments, "--database", "scratch", stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def test_missing_trigger_is_reported(unguarded: Scratch) -> None:
    [problem] = find_problems("scratch")

    assert str(problem) == (
        'The history in database "scratch" can be changed unnoticed: its trigger is missing. '
        "Run: manage.py pgcleanup sync --database scratch"
    )
    assert run("status")[0] == 1
    code, out = run("sync", "--check")
    assert code == 1
    assert out.startswith("public.settled_file_deletion: trigger missing\n")


def test_sync_puts_a_missing_trigger_back(unguarded: Scratch) -> None:
    code, out = run("sync")

    assert (code, out.splitlines()[0]) == (0, "settled_file_deletion: brought up to date")
    assert find_problems("scratch") == []
    unguarded.sql(SETTLE, [[1]])
    with pytest.raises(DatabaseError, match=REFUSED):
        unguarded.sql("DELETE FROM settled_file_deletion")


def test_disabled_trigger_is_reported_and_left_to_who_disabled_it(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("ALTER TABLE settled_file_deletion DISABLE TRIGGER settled_file_deletion_append_only")

    code, out = run("sync")

    assert code == 1
    assert (
        'The history in database "scratch" can be changed unnoticed: its trigger is disabled. To enable it: '
        'ALTER TABLE "public"."settled_file_deletion" ENABLE TRIGGER "settled_file_deletion_append_only";\n'
    ) in out
    assert scratch.sql("SELECT tgenabled::text FROM pg_trigger WHERE tgname LIKE 'settled%'") == [("D",)]


def test_function_that_somebody_replaced_is_reported_and_put_right(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql(
        "CREATE OR REPLACE FUNCTION settled_file_deletion_append_only() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN coalesce(NEW, OLD); END'"
    )
    before = [problem.sentence for problem in find_problems("scratch")]

    run("sync")

    assert before == ['The history in database "scratch" can be changed unnoticed: its trigger is outdated.']
    assert find_problems("scratch") == []


def test_sync_that_changes_nothing_leaves_the_trigger_alone(scratch: Scratch) -> None:
    sync("scratch")
    before = scratch.sql("SELECT xmin::text FROM pg_trigger WHERE tgname LIKE 'settled%'")

    sync("scratch")

    assert scratch.sql("SELECT xmin::text FROM pg_trigger WHERE tgname LIKE 'settled%'") == before


def test_migrating_to_zero_leaves_no_function(scratch: Scratch) -> None:
    call_command("migrate", "pgcleanup", "zero", database="scratch", verbosity=0)

    assert scratch.sql("SELECT proname FROM pg_proc WHERE proname LIKE '%append_only%'") == []


def test_refused_migration_to_zero_leaves_the_history_guarded(scratch: Scratch) -> None:
    scratch.sql("INSERT INTO project_document (title, file) VALUES ('', 'a'); DELETE FROM project_document")

    with pytest.raises(CommandError, match="still has pending file deletions"):
        call_command("migrate", "pgcleanup", "zero", database="scratch", verbosity=0)

    scratch.sql(SETTLE, [[1]])
    with pytest.raises(DatabaseError, match=REFUSED):
        scratch.sql("DELETE FROM settled_file_deletion")
    connections["scratch"].close()
