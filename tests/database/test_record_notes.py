"""`keep()` and `context()`: what the application says about its transaction is on every entry of it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from django.db import DatabaseError, transaction

import pgcleanup
from pgcleanup import cleanup
from tests.project.models import Document
from tests.support import ledger, run_sql

NOTES = """
SELECT coalesce(current_setting('pgcleanup.keep', true), ''),
       coalesce(current_setting('pgcleanup.context', true), '')
"""


def let_go(name: str) -> None:
    """Make the ledger record a name."""
    Document.objects.create(file=name).delete()


def kept() -> dict[str, bool]:
    return {entry.name: entry.keep for entry in ledger()}


def contexts() -> dict[str, object]:
    return {entry.name: json.loads(entry.context) if entry.context else None for entry in ledger()}


@pytest.mark.django_db(transaction=True)
class TestCommitted:
    """In transactions of their own."""

    def test_keep_marks_the_names_let_go_in_its_block(self) -> None:
        let_go("before")
        with pgcleanup.keep():
            let_go("inside")
        let_go("after")

        assert kept() == {"before": False, "inside": True, "after": False}

    def test_context_is_on_the_names_let_go_in_its_block(self) -> None:
        let_go("before")
        with pgcleanup.context(user=7, why="re-export"):
            let_go("inside")
        let_go("after")

        assert contexts() == {"before": None, "inside": {"user": 7, "why": "re-export"}, "after": None}

    def test_notes_do_not_reach_the_next_transaction_of_the_connection(self) -> None:
        with pgcleanup.keep(), pgcleanup.context(user=7):
            pass

        assert run_sql(NOTES) == [("", "")]

    def test_notes_of_a_block_that_failed_do_not_reach_the_next_transaction(self) -> None:
        with pytest.raises(DatabaseError), pgcleanup.keep(), pgcleanup.context(user=7):
            run_sql("SELECT 1 / 0")

        let_go("after")
        assert kept() == {"after": False}
        assert contexts() == {"after": None}

    def test_block_is_one_transaction(self) -> None:
        with suppress(ZeroDivisionError), pgcleanup.keep():
            let_go("undone")
            raise ZeroDivisionError

        assert ledger() == []

    def test_an_error_inside_that_was_caught_leaves_the_note_on(self) -> None:
        with pgcleanup.keep():
            with pytest.raises(DatabaseError), transaction.atomic():
                run_sql("SELECT 1 / 0")
            let_go("after the error")

        assert kept() == {"after the error": True}

    def test_inner_block_that_failed_puts_the_outer_blocks_note_back(self) -> None:
        with pgcleanup.context(job="outer"):
            with pytest.raises(DatabaseError), pgcleanup.context(job="inner"):
                run_sql("SELECT 1 / 0")
            let_go("outer again")

        assert contexts() == {"outer again": {"job": "outer"}}

    def test_block_marked_for_rollback_ends_without_an_error_of_ours(self) -> None:
        with pgcleanup.keep():
            let_go("undone")
            transaction.set_rollback(True)

        assert ledger() == []


@pytest.mark.django_db(databases=["default", "other"])
def test_notes_hold_in_their_own_database_alone() -> None:
    with pgcleanup.keep(using="other"), pgcleanup.context(using="other", user=7):
        let_go("here")

    assert kept() == {"here": False}
    assert contexts() == {"here": None}


@pytest.mark.django_db
def test_nested_context_adds_to_the_outer_ones_data_and_gives_it_back() -> None:
    with pgcleanup.context(job="night", step=1):
        with pgcleanup.context(step=2):
            let_go("inner")
        let_go("outer")

    assert contexts() == {"inner": {"job": "night", "step": 2}, "outer": {"job": "night", "step": 1}}


@pytest.mark.django_db
def test_nested_keep_leaves_the_outer_one_on() -> None:
    with pgcleanup.keep():
        with pgcleanup.keep():
            let_go("inner")
        let_go("outer")
    let_go("after")

    assert kept() == {"inner": True, "outer": True, "after": False}


@pytest.mark.django_db
def test_exception_between_savepoints_of_an_open_transaction_puts_the_note_back() -> None:
    with pytest.raises(ZeroDivisionError), pgcleanup.keep():
        raise ZeroDivisionError
    let_go("after")

    assert kept() == {"after": False}


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["no json", '["a list"]', '"', "7", "null", "{", "'; DROP TABLE x; --", "\u00e9"])
def test_context_that_sql_set_in_another_form_is_recorded_as_it_is(text: str) -> None:
    run_sql("SELECT set_config('pgcleanup.context', %s, true)", [text])

    let_go("a.txt")

    assert [entry.context for entry in ledger()] == [text]


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["no json", '["a list"]', "7"])
def test_context_within_one_that_sql_set_in_another_form_holds_and_gives_it_back(text: str) -> None:
    run_sql("SELECT set_config('pgcleanup.context', %s, true)", [text])

    with pgcleanup.context(user=7):
        let_go("inside")
    let_go("outside")

    assert [entry.context for entry in ledger()] == ['{"user": 7}', text]


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["off", "yes", "1", "true", "ON"])
def test_keep_that_sql_set_to_another_word_keeps_nothing(value: str) -> None:
    run_sql("SELECT set_config('pgcleanup.keep', %s, true)", [value])

    let_go("a.txt")

    assert kept() == {"a.txt": False}


@pytest.mark.django_db
def test_keep_set_by_sql_is_the_same_note() -> None:
    run_sql("SET LOCAL pgcleanup.keep = 'on'")

    let_go("a.txt")

    assert kept() == {"a.txt": True}


@pytest.mark.django_db
def test_context_survives_any_text_in_it() -> None:
    data = {"quote": "it's", "percent": "100%s", "unicode": "\u65e5\u672c", "nested": {"a": [1, None]}}

    with pgcleanup.context(**data):
        let_go("a.txt")

    assert contexts() == {"a.txt": data}


@pytest.mark.django_db
def test_context_that_is_no_json_is_refused_before_anything_is_noted() -> None:
    with pytest.raises(TypeError), pgcleanup.context(user=object()):
        pass

    assert run_sql(NOTES) == [("", "")]


def test_notes_are_the_same_functions_in_both_places() -> None:
    assert (cleanup.keep, cleanup.context) == (pgcleanup.keep, pgcleanup.context)
