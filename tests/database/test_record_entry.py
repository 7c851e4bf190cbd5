"""What an entry says beside the name, and which names it can hold."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from django.db import transaction

from tests.project.models import Document, DocumentTwin
from tests.support import ledger, recorded, run_sql, session

pytestmark = pytest.mark.django_db

# More bytes than a B-tree's entry can have, and nothing that could be compressed away.
LONG_NAMES = {
    "ASCII": "".join(chr(33 + i * 7919 % 90) for i in range(2000)),
    "Cyrillic": "".join(chr(0x430 + i * 7919 % 32) for i in range(1500)),
    "Chinese": "".join(chr(0x4E00 + i * 7919 % 20000) for i in range(1500)),
    "emoji": "".join(chr(0x1F300 + i * 7919 % 700) for i in range(1500)),
}
ODD_NAMES = {
    "quotes": 'it\'s "quoted".txt',
    "a backslash": "back\\slash.txt",
    "a newline": "two\nlines.txt",
    "percent signs": "100%s %(name)s %%.txt",
    "braces": "{0} {name}.txt",
    "a dollar tag": "$pgcleanup$ $sql$.txt",
    "SQL": "'); DROP TABLE pending_file_deletion; --",
    "blanks around it": " a.txt ",
    "a combining accent": "e\u0301.txt",
    "right-to-left script": "\u05e9\u05dc\u05d5\u05dd.txt",
    "the text NULL": "NULL",
    "array syntax": '{"a",NULL}',
}


@pytest.mark.parametrize("operation", ["UPDATE", "DELETE", "TRUNCATE"])
@pytest.mark.parametrize("name", [*LONG_NAMES.values(), *ODD_NAMES.values()], ids=[*LONG_NAMES, *ODD_NAMES])
def test_name_is_recorded_as_it_was_with(name: str, operation: str) -> None:
    Document.objects.create(file=name)

    match operation:
        case "UPDATE":
            run_sql("UPDATE project_document SET file = ''")
        case "DELETE":
            run_sql("DELETE FROM project_document")
        case "TRUNCATE":
            run_sql("TRUNCATE project_document CASCADE")

    assert [entry.name for entry in ledger()] == [name]


@pytest.mark.parametrize("operation", ["UPDATE project_document SET file = ''", "DELETE FROM project_document"])
def test_entry_tells_transaction_user_and_application(operation: str) -> None:
    Document.objects.create(file="a.txt")
    [[transaction_id, user]] = run_sql("SELECT pg_current_xact_id()::text::bigint, session_user")
    run_sql("SET LOCAL application_name = 'the shop'")

    run_sql(operation)

    [entry] = ledger()
    assert (entry.transaction_id, entry.db_user, entry.application_name) == (transaction_id, user, "the shop")


def test_entry_tells_who_logged_in_rather_than_the_role_that_was_set() -> None:
    Document.objects.create(file="a.txt")
    [[user]] = run_sql("SELECT session_user")
    run_sql("SET LOCAL ROLE pg_write_all_data")

    run_sql("DELETE FROM project_document")

    run_sql("RESET ROLE")
    assert [entry.db_user for entry in ledger()] == [user]


def test_entry_tells_the_time_of_day_even_late_in_a_transaction() -> None:
    Document.objects.create(file="a.txt")
    run_sql("SELECT pg_sleep(0.05)")

    run_sql("DELETE FROM project_document")

    [entry] = ledger()
    [[began]] = run_sql("SELECT now()")
    assert timedelta(seconds=0.05) <= entry.recorded_at - began
    assert abs(datetime.now(timezone.utc) - entry.recorded_at) < timedelta(minutes=1)


def test_entry_starts_out_unseen_and_without_an_attempt() -> None:
    Document.objects.create(file="a.txt").delete()

    [entry] = ledger()
    assert (entry.stamp_id, entry.attempts, entry.retry_at, entry.exhausted_at, entry.cancelled_at) == (
        None,
        0,
        None,
        None,
        None,
    )
    assert (entry.last_error, entry.context, entry.keep) == ("", None, False)


def test_column_that_two_models_share_is_recorded_once_for_the_managed_one() -> None:
    Document.objects.create(file="a.txt")

    DocumentTwin.objects.all().delete()

    assert recorded() == [("project.document.file", "a.txt", "DELETE")]


@pytest.mark.parametrize(
    "operation",
    ["UPDATE project_document SET file = ''", "DELETE FROM project_document", "TRUNCATE project_document CASCADE"],
)
def test_name_that_two_rows_share_is_recorded_for_each(operation: str) -> None:
    Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="a.txt")])

    run_sql(operation)

    # One statement's entries are in the order of the rows on disk, which is that of their making only in a new table.
    assert sorted((entry.name, entry.object_pk) for entry in ledger()) == [("a.txt", "1"), ("a.txt", "2")]


@pytest.mark.django_db(transaction=True)
def test_recording_spends_one_subtransaction_id_in_a_transaction() -> None:
    Document.objects.bulk_create([Document(file=f"{number}.txt") for number in range(50)])

    with transaction.atomic():
        run_sql("UPDATE project_document SET file = file || '.old' WHERE id % 2 = 0; DELETE FROM project_document")
        [[transaction_id]] = run_sql("SELECT pg_current_xact_id()::text")

    # xmin is the id of the (sub)transaction that wrote the row.
    written_by = run_sql("SELECT xmin::text, count(*) FROM pending_file_deletion GROUP BY 1 ORDER BY 2")
    assert [count for _, count in written_by] == [1, 74]
    assert written_by[1][0] == transaction_id


@pytest.mark.django_db(transaction=True)
def test_two_transactions_that_let_the_same_name_go_do_not_wait_for_each_other() -> None:
    Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="a.txt")])

    with session(autocommit=False) as one, session(autocommit=False) as two:
        two.execute("SET lock_timeout = '100ms'")
        one.execute("DELETE FROM project_document WHERE id = 1")
        two.execute("DELETE FROM project_document WHERE id = 2")
        two.commit()
        one.commit()

    assert [entry.object_pk for entry in ledger()] == ["1", "2"]


def test_recording_works_without_the_application_being_on_the_search_path() -> None:
    Document.objects.create(file="a.txt")
    run_sql("SET LOCAL search_path = ''")

    run_sql("DELETE FROM public.project_document")

    run_sql("SET LOCAL search_path = public")
    assert recorded() == [("project.document.file", "a.txt", "DELETE")]


def test_table_of_the_sessions_own_does_not_take_the_ledgers_place() -> None:
    Document.objects.create(file="a.txt")
    run_sql("CREATE TEMP TABLE pending_file_deletion (LIKE public.pending_file_deletion INCLUDING ALL)")

    run_sql("DELETE FROM project_document")

    assert run_sql("SELECT name FROM public.pending_file_deletion") == [("a.txt",)]
