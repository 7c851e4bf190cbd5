"""The same counterexamples, with the application's step put before each single statement of a drain in turn.

What must hold at each place: no committed row names a file that is gone, and in the end nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connections

from pgcleanup import sql
from pgcleanup.drain.surroundings import Surroundings, look_around
from pgcleanup.ledger import fence
from tests.drain.support import Session, Stepped, before_statement, end_retry_waits, let_go, pending, put
from tests.project.models import Document

NAME = "docs/a.txt"
REFERENCES = """
SELECT (SELECT count(*) FROM project_document WHERE file = %s)
       + (SELECT count(*) FROM project_attachment WHERE file = %s)
"""


class Carried:
    """One row goes; another one goes in T1, from which T2 has read the name, and T2 writes it."""

    def __init__(self, session: Callable[..., Session]) -> None:
        let_go(NAME)
        row = Document.objects.create(file=NAME)
        self.remover, self.carrier = session().begin(), session()
        self.remover.run("DELETE FROM project_document WHERE id = %s", row.pk)

    def act(self) -> None:
        self.carrier.begin().run("SELECT file FROM project_document")
        self.remover.commit()
        self.carrier.name(NAME)

    def end(self) -> None:
        self.carrier.commit()


class CarriedByTransactionsInNoFence(Carried):
    """The same, with the first row's entry seen before T1 and T2 began: its fence is clear from the start."""

    def __init__(self, session: Callable[..., Session]) -> None:
        let_go(NAME)
        fence.stamp("default")
        row = Document.objects.create(file=NAME)
        self.remover, self.carrier = session().begin(), session()
        self.remover.run("DELETE FROM project_document WHERE id = %s", row.pk)


class MovedToAnotherTable:
    """T1 moves the name from one table to another in one transaction, which commits."""

    def __init__(self, session: Callable[..., Session]) -> None:
        let_go(NAME)
        Document.objects.create(file=NAME)
        self.mover = session()

    def act(self) -> None:
        self.mover.begin()
        self.mover.run("INSERT INTO project_attachment (file) VALUES (%s)", NAME)
        self.mover.run("DELETE FROM project_document WHERE file = %s", NAME)
        self.mover.commit()

    def end(self) -> None:
        pass


class ReadByAnOpenTransaction:
    """T has read the name before it was let go, and commits a row with it."""

    def __init__(self, session: Callable[..., Session]) -> None:
        row = Document.objects.create(file=NAME)
        self.reader = session().begin("REPEATABLE READ")
        self.reader.run("SELECT file FROM project_document")
        row.delete()

    def act(self) -> None:
        self.reader.name(NAME)
        self.reader.commit()

    def end(self) -> None:
        pass


class LetGoAgain:
    """The last row goes while the drain looks at the entry of an earlier one."""

    def __init__(self, session: Callable[..., Session]) -> None:
        let_go(NAME)
        Document.objects.create(file=NAME)
        self.application = session()

    def act(self) -> None:
        self.application.run("DELETE FROM project_document WHERE file = %s", NAME)

    def end(self) -> None:
        pass


SCENARIOS = [Carried, CarriedByTransactionsInNoFence, MovedToAnotherTable, ReadByAnOpenTransaction, LetGoAgain]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_every_place_in_a_drain_nothing_is_deleted_too_early_nor_forgotten(scenario, session, settings, monkeypatch):
    # Less what says nothing here, to have fewer places.
    settings.PGCLEANUP_HISTORY_RETENTION = None
    monkeypatch.setattr("pgcleanup.drain.run.settle_at_once", lambda context, inspection: iter(()))
    monkeypatch.delitem(connections.settings, "other")
    surroundings = look_around("default")
    for place in range(100):
        _start_anew()
        path = put(NAME)
        application = scenario(session)
        run = Stepped(surroundings=surroundings)
        with before_statement(place, application.act) as statements:
            list(run.steps)
        if len(statements) <= place:
            break
        application.end()

        referenced = sql.fetch("default", REFERENCES, [NAME, NAME])[0][0]
        assert path.exists() or not referenced, f"deleted too early, with the step before {statements[place]}"
        _come_to_rest(surroundings)
        assert path.exists() == bool(referenced), f"not settled rightly, with the step before {statements[place]}"
        assert pending() == []
    assert place >= 10


def _start_anew() -> None:
    sql.execute(
        "default",
        "DELETE FROM project_document; DELETE FROM project_attachment;"
        "DELETE FROM pending_file_deletion; DELETE FROM file_deletion_stamp",
    )


def _come_to_rest(surroundings: Surroundings) -> None:
    list(Stepped(surroundings=surroundings).steps)
    if pending():
        end_retry_waits()
        list(Stepped(surroundings=surroundings).steps)
