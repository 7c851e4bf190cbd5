"""An entry is part of the transaction that let the name go: it comes and goes with it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import DatabaseError, transaction

from tests.project.models import Document
from tests.support import ledger, recorded_names, run_sql, session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def documents() -> list[Document]:
    return Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="b.txt")])


class Undo(Exception):
    """Rolls back the block that it leaves."""


def test_commit_keeps_the_entry(documents: list[Document]) -> None:
    with transaction.atomic():
        documents[0].delete()

    assert recorded_names() == ["a.txt"]


def test_rollback_takes_the_entry_with_it(documents: list[Document]) -> None:
    with suppress(Undo), transaction.atomic():
        documents[0].delete()
        raise Undo

    assert ledger() == []


def test_rollback_of_a_truncate_takes_the_entries_with_it(documents: list[Document]) -> None:
    with suppress(Undo), transaction.atomic():
        run_sql("TRUNCATE project_document CASCADE")
        assert recorded_names() == ["a.txt", "b.txt"]
        raise Undo

    assert ledger() == []


def test_rollback_to_a_savepoint_takes_the_entries_made_since(documents: list[Document]) -> None:
    with transaction.atomic():
        documents[0].delete()
        with suppress(Undo), transaction.atomic():
            documents[1].delete()
            raise Undo

    assert recorded_names() == ["a.txt"]


def test_released_savepoint_keeps_its_entries(documents: list[Document]) -> None:
    with transaction.atomic():
        with transaction.atomic():
            documents[0].delete()
        documents[1].delete()

    assert recorded_names() == ["a.txt", "b.txt"]


def test_failed_statement_leaves_no_entry(documents: list[Document]) -> None:
    with pytest.raises(DatabaseError):
        run_sql("UPDATE project_document SET file = CASE id WHEN 1 THEN 'c.txt' ELSE (1 / (id - 2))::text END")

    assert ledger() == []


def test_session_that_goes_away_leaves_no_entry(documents: list[Document]) -> None:
    with session(autocommit=False) as other:
        other.execute("DELETE FROM project_document")

    assert ledger() == []


def test_entries_are_invisible_to_others_until_the_commit(documents: list[Document]) -> None:
    with session(autocommit=False) as other:
        other.execute("DELETE FROM project_document")
        before = recorded_names()

        other.commit()

        assert before == []
        assert recorded_names() == ["a.txt", "b.txt"]


def test_prepared_transaction_records_when_it_is_committed(documents: list[Document]) -> None:
    with session(autocommit=False) as other:
        other.execute("DELETE FROM project_document")
        other.execute("PREPARE TRANSACTION 'pgcleanup of a test'")
        other.rollback()
        before = recorded_names()
        other.autocommit = True

        other.execute("COMMIT PREPARED 'pgcleanup of a test'")

    assert before == []
    assert recorded_names() == ["a.txt", "b.txt"]
