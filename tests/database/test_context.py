"""`pgcleanup.context()` beyond its own block: what it takes, and what it adds to. See test_record_notes, too."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import pgcleanup
from tests.project.models import Document
from tests.support import ledger, run_sql


def let_go(name: str = "a.txt") -> None:
    Document.objects.create(file=name).delete()


def contexts() -> list[Any]:
    return [json.loads(entry.context) if entry.context else None for entry in ledger()]


@pytest.mark.django_db
def test_context_takes_what_django_can_write_as_json() -> None:
    with pgcleanup.context(user=UUID(int=7), day=date(2026, 11, 22), price=Decimal("1.10")):
        let_go()

    assert contexts() == [{"user": "00000000-0000-0000-0000-000000000007", "day": "2026-11-22", "price": "1.10"}]


@pytest.mark.django_db
def test_context_that_is_no_json_is_an_error_before_anything_is_done() -> None:
    with pytest.raises(TypeError), pgcleanup.context(what=object()):
        let_go()

    assert ledger() == []


@pytest.mark.django_db
@pytest.mark.parametrize("metadata", ['{"user": 9, "url": "/x/"}', "not JSON"])
def test_context_of_pghistory_is_recorded_where_there_is_none_of_ours(metadata: str) -> None:
    run_sql("SELECT set_config('pghistory.context_metadata', %s, true)", [metadata])

    let_go("theirs")
    with pgcleanup.context(user=7):
        let_go("ours")

    assert [entry.context for entry in ledger()] == [metadata, '{"user": 7}']
