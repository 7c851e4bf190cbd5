"""Whatever writers and drains do at the same time: no committed row without its file, and nothing left in the end.

`make test` runs the same few examples each time, `make test-property` new ones for some minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
from django.db import connections
from hypothesis import HealthCheck
from hypothesis.stateful import run_state_machine_as_test

from pgcleanup.drain.surroundings import look_around
from pgcleanup.ledger.fence import DRAIN_PARAMETERS
from tests.drain.support import ALIASES, Session
from tests.property.machine import WINDOW, Surroundings, machine, summary
from tests.property.writers import writing_session

pytestmark = pytest.mark.django_db(transaction=True, databases=list(ALIASES))

EXAMPLES = 20
THOROUGH_EXAMPLES = 300
STEPS = 50


@pytest.fixture
def surroundings(database, media_root, settings, monkeypatch) -> Iterator[Surroundings]:
    # A drain waits for a TRUNCATE that is not committed no longer than a writer does.
    monkeypatch.setitem(DRAIN_PARAMETERS, "lock_timeout", "50ms")
    monkeypatch.setattr("pgcleanup.ledger.fence.LOCK_SECONDS", 0.1)
    monkeypatch.setattr("pgcleanup.references.scans.SIZE_LOCK_TIMEOUT", "50ms")
    # One database is enough, and each drain opens connections of its own.
    monkeypatch.delitem(connections.settings, "other")
    # Real time is not this test's: what a batch has not got to in it, it would leave.
    monkeypatch.setattr("pgcleanup.drain.batch.BATCH_SECONDS", 3600.0)
    monkeypatch.setattr("pgcleanup.drain.batch.SLOWEST", 3600.0)
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW

    def set_grace(grace):
        settings.PGCLEANUP_GRACE_PERIOD = grace

    checker = Session(options="-c statement_timeout=20s")
    sessions = [writing_session() for _ in range(3)]
    can_prepare = checker.run("SHOW max_prepared_transactions") != [("0",)]
    yield Surroundings(media_root, set_grace, checker, sessions, can_prepare, look_around("default"))
    for session in [checker, *sessions]:
        session.raw.close()


def test_committed_references_have_their_files_and_nothing_is_left_behind(surroundings, capsys):
    profile = hypothesis.settings()
    thorough = not profile.derandomize
    settings = hypothesis.settings(
        profile,
        max_examples=THOROUGH_EXAMPLES if thorough else EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    try:
        run_state_machine_as_test(machine(surroundings), settings=settings)
    finally:
        if thorough:
            with capsys.disabled():
                print(*["", *summary(surroundings.counts)], sep="\n")

    assert surroundings.counts["deleted"]
    assert surroundings.counts["kept"]
