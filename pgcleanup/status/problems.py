"""What is wrong with a database, cheaply: a few catalog queries and the ends of two indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, transaction
from django.utils.text import capfirst

from pgcleanup import references, sql
from pgcleanup.columns import find_file_columns
from pgcleanup.conf import settings
from pgcleanup.drain.permission import withheld
from pgcleanup.ledger import control, state
from pgcleanup.status.coverage import coverage_of
from pgcleanup.status.rights import uncheckable, unreadable
from pgcleanup.status.words import duration, ended, number, period, plural
from pgcleanup.triggers import how_to_install, how_to_make_tables, inspect

_FAILED_LIMIT = 1_000
_NOTHING = "nothing is pending"

# What has failed for good keeps its last retry_at, so it stands at the start of that index.
_FAILED = """
SELECT count(*)
  FROM (SELECT exhausted_at FROM pending_file_deletion WHERE retry_at IS NOT NULL ORDER BY retry_at LIMIT %(limit)s) r
 WHERE exhausted_at IS NOT NULL
"""

# Of a database that was drained at least once, something remains: history, or a stamp.
_EVER_DRAINED = "SELECT EXISTS (SELECT FROM settled_file_deletion) OR EXISTS (SELECT FROM file_deletion_stamp)"


class Kind(Enum):
    """What a problem is about; the check of the same matter has its id from it."""

    UNREADABLE = "unreadable"
    NO_LEDGER = "no ledger"
    COVERAGE = "coverage"
    BEHIND = "behind"
    FAILED = "failed"
    PAUSED = "paused"
    COPIED = "copied"
    UNCHECKABLE = "uncheckable"
    """Said of a process that drains, which no check is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    sentence: str
    advice: str
    """What to do about it: a command, mostly."""
    broken: bool = True
    """Whether names are lost or nothing is deleted; else the database is behind."""

    def __str__(self) -> str:
        """Say it with what to do."""
        return f"{self.sentence} {self.advice}"


@dataclass(frozen=True, slots=True)
class Age:
    """The one number, and whether it is on time."""

    oldest: timedelta | None
    """How long the oldest pending name is past its grace period; None where nothing is pending."""
    ever_drained: bool
    failed: int = 0
    """Entries that failed for good, which have no age; counted up to a bound."""

    @property
    def late(self) -> bool:
        """Whether it is over PGCLEANUP_MAX_AGE. Never while PGCLEANUP_DELETE_FILES is False."""
        return self.oldest is not None and self.oldest > settings.max_age and settings.delete_files

    @property
    def never_drained(self) -> bool:
        """Whether something is past its grace period, and no drain has run since it was recorded."""
        return bool(self.oldest) and not self.ever_drained and settings.delete_files

    def __str__(self) -> str:
        """Say it in words."""
        if self.oldest is None:
            return f"nothing is pending but {_entries(self.failed)} that failed for good" if self.failed else _NOTHING
        if not self.oldest:
            return f"on time, but {_entries(self.failed)} failed for good" if self.failed else "on time"
        overdue = f"oldest pending file: {duration(self.oldest)} past its grace period"
        if self.late:
            return f"{overdue}, more than PGCLEANUP_MAX_AGE ({period(settings.max_age)})"
        return overdue


def problems(using: str) -> list[str]:
    """Say what is wrong with a database, a sentence each; an empty list says that all is well.

    Raises nothing of the database's, and leaves an open transaction usable: `migrate` calls it.
    """
    return [str(problem) for problem in find_problems(using)]


def find_problems(using: str, *, as_drain: bool = False) -> list[Problem]:
    """Return what is wrong with a database, as `problems` says it. Of another than PostgreSQL nothing is said.

    With `as_drain`, it also counts that this process reaches the database as no drain did before, or may not read
    what a drain checks; the processes of a site may rightly differ from its drains.
    """
    return _found(using, lambda: _problems(using, as_drain))


def find_stops(using: str) -> list[Problem]:
    """Return why no drain may delete in a database, as far as that does not depend on the process: a look at a row."""
    return _found(using, lambda: _stops(using, addresses=False) if control.exists(using) else iter(()))


def _found(using: str, look: Callable[[], Iterator[Problem]]) -> list[Problem]:
    if connections[using].vendor != "postgresql":
        return []
    try:
        with transaction.atomic(using=using):
            return list(look())
    except (Error, ImproperlyConfigured) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        advice = f"Look again: manage.py pgcleanup status --database {using}"
        with suppress(Error):
            advice = (unreadable(using) or (text[0], advice))[1]
        sentence = f'The state of file deletions in database "{using}" cannot be read: {ended(text[0])}'
        return [Problem(Kind.UNREADABLE, sentence, advice)]


def age(using: str) -> Age:
    """Return how far behind a database is: a look at the ends of two indexes."""
    oldest = state.oldest_age(using, settings.grace_period)
    failed = int(sql.fetch(using, _FAILED, {"limit": _FAILED_LIMIT})[0][0])
    return Age(oldest, ever_drained=bool(sql.fetch(using, _EVER_DRAINED)[0][0]), failed=failed)


def _problems(using: str, as_drain: bool) -> Iterator[Problem]:
    columns = find_file_columns(using)
    inspection = inspect(using, columns)
    if inspection is None:
        recorded = type(columns)(column for column in columns if column.recorded)
        if references.present(using, recorded):
            yield Problem(
                Kind.NO_LEDGER,
                f'Database "{using}" has file columns but no ledger, so its files are NOT recorded.',
                how_to_make_tables(using),
            )
        return
    if inspection.plan.triggers and not inspection.ledger.has_column_table and not inspection.catalog.functions:
        yield Problem(
            Kind.COVERAGE,
            f'Database "{using}" has no triggers at all, as after `pgcleanup uninstall`: its files are NOT recorded.',
            f"{how_to_install(using)}, or to leave: manage.py migrate pgcleanup zero",
        )
        return
    has_control = control.exists(using)
    yield from _stops(using, addresses=as_drain) if has_control else ()
    if as_drain and (found := uncheckable(using, columns)) is not None:
        yield Problem(Kind.UNCHECKABLE, *found)
    coverage = coverage_of(inspection)
    for sentence, advice in coverage.problems(using):
        yield Problem(Kind.COVERAGE, sentence, advice)
    for sentence, advice in coverage.history_problems(using):
        yield Problem(Kind.COVERAGE, sentence, advice, broken=False)
    current = age(using)
    behind = list(_of_age(using, current))
    yield from behind or (_of_schedule(using, current) if has_control else ())
    if current.failed:
        yield Problem(
            Kind.FAILED,
            f'{capfirst(_entries(current.failed))} in database "{using}" failed for good (PGCLEANUP_MAX_ATTEMPTS): '
            "a person is needed.",
            f"For the errors: manage.py pgcleanup status --database {using}. Mend their cause, then: "
            f"manage.py pgcleanup retry --failed --database {using}",
            broken=False,
        )


def _stops(using: str, addresses: bool) -> Iterator[Problem]:
    for reason in withheld(using, addresses=addresses):
        kind = Kind.PAUSED if reason.by_pause else Kind.COPIED
        yield Problem(kind, capfirst(reason.sentence), reason.advice)


def _entries(failed: int) -> str:
    return f"at least {number(failed)} entries" if failed == _FAILED_LIMIT else plural(failed, "entry", "entries")


def _of_schedule(using: str, age: Age) -> Iterator[Problem]:
    """Say that no drain runs any more, before what waits is late."""
    found = control.read(using) if age.oldest is not None else control.Control()
    if found.drained_at is None or found.pause is not None:
        return
    since = datetime.now(timezone.utc) - found.drained_at
    if since > settings.max_age:
        yield Problem(
            Kind.BEHIND,
            f'No drain of database "{using}" has begun for {duration(since)}, and files wait. Is it still scheduled?',
            f"Run: manage.py drain_deletions --database {using}",
            broken=False,
        )


def _of_age(using: str, age: Age) -> Iterator[Problem]:
    drain = f"Run: manage.py drain_deletions --database {using}"
    if age.never_drained and age.oldest is not None:
        yield Problem(
            Kind.BEHIND,
            f'Files wait to be deleted in database "{using}", the oldest for {duration(age.oldest)} past its grace '
            "period, and no drain has run since. Has it been scheduled?",
            drain,
            broken=False,
        )
    elif age.late:
        yield Problem(
            Kind.BEHIND,
            f'Database "{using}" is behind, {age}. Is the drain scheduled, and does it succeed?',
            drain,
            broken=False,
        )
