"""`drain_deletions --watch`: drain again and again, at once where there is work, seldom where there is none.

Any number of processes may do so at once. Each drain is one like any other: it looks anew at settings of the
database, triggers and pauses, and leaves nothing behind but what it settled.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, OperationalError, connections

from pgcleanup import sql
from pgcleanup.conf import settings
from pgcleanup.drain import FileResult, Run
from pgcleanup.exceptions import DrainRefused, PgcleanupError
from pgcleanup.ledger import gauges
from pgcleanup.ledger.gauges import Backlog
from pgcleanup.management.output.watched import Journal
from pgcleanup.management.stopping import Stop
from pgcleanup.models import Outcome

if TYPE_CHECKING:
    from pgcleanup.metrics import Metrics

SHORTEST_PAUSE = 1.0
# Not a moment before something is due.
_A_LITTLE = 0.05
# A database that was restarted is back within seconds; one that is gone for hours is not to be asked each second.
LONGEST_BACKOFF = 60.0
# Of a long drain there is a line for each batch, but no more than so many.
SECONDS_BETWEEN_LINES = 1.0
# What is wrong and stays so is said again after a while, not after each drain.
SECONDS_BETWEEN_REMINDERS = 3600.0
_LOOK_TIMEOUT = "2s"
# Fields of a line that are there also where they are zero.
_ALWAYS = {"deleted", "bytes", "seconds", "pending", "oldest_pending_seconds", "next_seconds"}


@dataclass(slots=True)
class Pace:
    """How long to pause: short while there is work, then ever longer, and never beyond what is known to come."""

    longest: float
    idle: float = SHORTEST_PAUSE

    def after_drain(self, *, busy: bool, next_due: float | None) -> float:
        """Return the pause, in seconds, after a drain that found work or none."""
        shortest = min(SHORTEST_PAUSE, self.longest)
        self.idle = shortest if busy else min(self.longest, self.idle * 2)
        # Several that were started in one moment do not stay in step.
        pause = self.idle * random.uniform(0.9, 1.0)  # noqa: S311 -- no secret
        return pause if next_due is None else min(pause, max(next_due + _A_LITTLE, shortest))

    def after_error(self, errors: int) -> float:
        """Return the pause after so many failures to reach the database in a row."""
        return float(min(LONGEST_BACKOFF, SHORTEST_PAUSE * 2 ** min(errors - 1, 10)) * random.uniform(0.5, 1.0))  # noqa: S311


class Watch:
    """Drains one database until it is told to stop."""

    def __init__(
        self,
        using: str,
        *,
        pace: Pace,
        stop: Stop,
        journal: Journal,
        metrics: Metrics | None = None,
        **options: Any,
    ) -> None:
        self._using = using
        self._pace = pace
        self._stop = stop
        self._journal = journal
        self._metrics = metrics
        self._options = options
        self._errors = 0
        self._deletes = True
        self._counts: Counter[Outcome] = Counter()
        self._bytes = 0
        self._told = self._began = 0.0
        self._told_batches = 0
        # What is wrong, in sentences, and when each was said last.
        self._trouble: dict[str, float] = {}
        self._errors_told: dict[str, float] = {}

    def run(self) -> None:
        """Drain until a signal comes. What goes wrong with the database is told, and tried again."""
        self._journal.tell("watching", interval=self._pace.longest, delete_files=settings.delete_files)
        while not self._stop():
            self._stop.wait(self._drain())
        self._journal.tell("stopped", signal=self._stop.name)

    def _drain(self) -> float:
        """Drain once. Returns how long to pause."""
        self._began = self._told = time.monotonic()
        self._told_batches = 0
        self._deletes = settings.delete_files
        try:
            run = Run(
                self._using,
                progress=self._heard,
                stop=self._stop,
                calls=self._metrics.calls() if self._metrics is not None else None,
                **self._options,
            )
            for step in run.steps():
                if step == "committed" and time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
                    self._tell_batch()
            return self._ended(run)
        except (DrainRefused, ImproperlyConfigured) as error:
            self._count("refused")
            self._say_trouble("refused", [str(error)])
            return self._pace.after_drain(busy=False, next_due=None)
        except (PgcleanupError, Error, psycopg.Error) as error:
            self._count("error")
            return self._failed(error)

    def _heard(self, result: FileResult) -> None:
        # With PGCLEANUP_DELETE_FILES = False every drain says of every name what would become of it.
        if not self._deletes:
            return
        if result.outcome is not None:
            self._counts[result.outcome] += 1
            self._bytes += result.bytes if result.outcome is Outcome.DELETED else 0
        if self._metrics is not None:
            self._metrics.heard(result)

    def _ended(self, run: Run) -> float:
        tally = run.context.tally
        found = self._look(run.context.grace)
        self._count("refused" if tally.refused else "done")
        if self._errors:
            self._errors = 0
            self._errors_told.clear()
            self._journal.tell("reached")
        next_due = None
        if found is not None and found.next_due is not None:
            next_due = (found.next_due - found.now).total_seconds()
        # Not whether something is due: it may wait for company, for a prepared transaction or for another process.
        pause = self._pace.after_drain(busy=tally.names > 0 and self._deletes, next_due=next_due)
        left = _left(found) if found is not None else {}
        self._tell_batch(**left, next_seconds=round(pause, 1))
        self._say_trouble("problem", [*tally.refused.values(), *tally.problems, *run.inspection.problems()])
        return pause

    def _look(self, grace: timedelta) -> Backlog | None:
        """Return what is left, or None where that takes too long: it is for the line and the pause only."""
        try:
            with sql.short_transaction(self._using, statement_timeout=_LOOK_TIMEOUT, lock_timeout=_LOOK_TIMEOUT):
                return gauges.look(self._using, grace)
        except OperationalError as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
                return None
            raise

    def _tell_batch(self, **more: Any) -> None:
        """Tell what was done since the last line. The numbers of all lines add up; the last of a drain has `more`."""
        now = time.monotonic()
        if self._counts or (more and self._told_batches):
            fields: dict[str, Any] = {outcome.value: self._counts[outcome] for outcome in Outcome}
            fields |= {"bytes": self._bytes, "seconds": round(now - self._began, 3), **more}
            self._journal.tell("drained", **{name: value for name, value in fields.items() if value or name in _ALWAYS})
            self._told_batches += 1
        self._counts.clear()
        self._bytes = 0
        self._told = self._began = now

    def _say_trouble(self, event: str, sentences: list[str]) -> None:
        """Say what is wrong, once, and that it is over."""
        trouble = dict.fromkeys(sentences)
        # Beside a new one it may be what is still wrong, in other words: errors of storages have numbers in them.
        if trouble.keys() <= self._trouble.keys():
            for sentence in self._trouble:
                if sentence not in trouble:
                    self._journal.tell("mended", what=sentence)
        self._trouble = {sentence: self._trouble[sentence] for sentence in trouble if sentence in self._trouble}
        for sentence in trouble:
            if _is_due(self._trouble, sentence):
                self._journal.tell(event, problem=True, what=sentence)

    def _failed(self, error: Exception) -> float:
        """Let the connections go, which may be those of a server that is gone, and wait a little longer each time."""
        # What was committed before is done.
        self._tell_batch()
        for connection in connections.all(initialized_only=True):
            connection.close()
        self._errors += 1
        pause = self._pace.after_error(self._errors)
        text = (str(error).strip().splitlines() or [""])[0]
        what = f"{type(error).__name__}: {text}"
        if _is_due(self._errors_told, what):
            self._journal.tell("error", problem=True, what=what, next_seconds=round(pause, 1))
        return pause

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.ended(result)


def _is_due(told: dict[str, float], sentence: str) -> bool:
    """Whether a sentence is to be said, for the first time or once more; notes that it is said now."""
    now = time.monotonic()
    if sentence in told and now - told[sentence] < SECONDS_BETWEEN_REMINDERS:
        return False
    told[sentence] = now
    return True


def _left(found: Backlog) -> dict[str, Any]:
    oldest = found.oldest.total_seconds() if found.oldest is not None else 0.0
    return {
        "pending": found.pending,
        "failed": found.waiting.get("failed", 0),
        "oldest_pending_seconds": round(oldest, 1),
    }
