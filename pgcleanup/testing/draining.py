"""A drain inside the transaction of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS, connections
from django.test import override_settings

from pgcleanup import sql
from pgcleanup.drain import DrainReport, FileResult, Run
from pgcleanup.ledger.fence import DRAIN_PARAMETERS
from pgcleanup.models import Outcome

_NO_WAITING = {"PGCLEANUP_GRACE_PERIOD": timedelta(0), "PGCLEANUP_UPLOAD_WINDOW": timedelta(0)}
_END_PAUSES = """
UPDATE pending_file_deletion SET retry_at = clock_timestamp() WHERE retry_at > clock_timestamp()
"""
_PARAMETERS = """
SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS p(name)
 WHERE current_setting(name, true) IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain of a test did."""

    results: tuple[FileResult, ...]
    """What became of each name, in order."""
    report: DrainReport

    def names(self, outcome: Outcome) -> list[str]:
        """Return the names with this outcome, sorted."""
        return sorted(result.name for result in self.results if result.outcome is outcome)

    @property
    def deleted(self) -> list[str]:
        """The names whose file was deleted, sorted."""
        return self.names(Outcome.DELETED)

    @property
    def kept(self) -> list[str]:
        """The names whose file was kept, since a row still names it for example."""
        return self.names(Outcome.KEPT)

    @property
    def retrying(self) -> list[str]:
        """The names that failed and will be tried again."""
        return self.names(Outcome.POSTPONED)


def drain_now(*, using: str = DEFAULT_DB_ALIAS) -> Drained:
    """Delete the files of all names that the test has let go so far, as if every wait were over.

    With neither grace period nor upload window, with no pause between two attempts, and inside the open transaction,
    which a drain refuses elsewhere: the files are really gone when the test rolls back, and their entries are, too.

    Raises:
        DrainRefused: the database has no ledger, or the settings are wrong.
    """
    results: list[FileResult] = []
    with override_settings(**_NO_WAITING), _parameters_put_back(using):
        sql.execute(using, _END_PAUSES)
        run = Run(
            using,
            # A test may name files that it never made.
            accept_absent=True,
            progress=results.append,
            # Tests move MEDIA_ROOT after `migrate` has noted it.
            compare_columns=False,
            inside_transaction=True,
        )
        for _ in run.steps():
            pass
        return Drained(tuple(results), run.report())


@contextmanager
def _parameters_put_back(using: str) -> Iterator[None]:
    """Undo what the drain sets for its transaction, which here is the test's."""
    if not connections[using].in_atomic_block:
        yield
        return
    before = dict(sql.fetch(using, _PARAMETERS, [[*DRAIN_PARAMETERS, "transaction_timeout"]]))
    yield
    sql.set_local(using, **before)
