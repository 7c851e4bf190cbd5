"""The whole picture of one database, for `manage.py pgcleanup status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from django.db import DatabaseError, connections

from pgcleanup import conf, sql
from pgcleanup.columns import find_file_columns
from pgcleanup.conf import settings
from pgcleanup.ledger import bounded, control, fence, gauges, state
from pgcleanup.ledger.control import Pause
from pgcleanup.status.coverage import Coverage, coverage_of
from pgcleanup.status.problems import Age, Kind, Problem, age, find_problems
from pgcleanup.triggers import how_to_make_tables, inspect

RECENTLY = timedelta(hours=24)

# The history comes in the order of its settlement: a block range index finds a day's part of it.
_RECENT = """
SELECT outcome, count(*), coalesce(sum(bytes), 0)::bigint, max(settled_at)
  FROM settled_file_deletion
 WHERE settled_at > clock_timestamp() - %(recently)s
 GROUP BY outcome
"""
# Nearly the last one: the id is that of the entry. Asked only where the last day has none.
_LAST_SETTLED = "SELECT settled_at FROM settled_file_deletion ORDER BY id DESC LIMIT 1"


# What an earlier drain found too young carries that reason, see ledger.state.
_TOO_YOUNG = """
SELECT name, min(retry_at)
  FROM pending_file_deletion
 WHERE retry_at > clock_timestamp() AND attempts = 0 AND starts_with(last_error, 'upload_window:')
 GROUP BY name
 ORDER BY 2
 LIMIT %(limit)s
"""


class Health(str, Enum):
    """The answer in one word."""

    HEALTHY = "healthy"
    BEHIND = "behind"
    BROKEN = "broken"

    @property
    def exit_code(self) -> int:
        """Return what the command ends with."""
        return {"healthy": 0, "behind": 1, "broken": 3}[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one database has pending, what it records, and what was done lately. Counts are of names."""

    database: str
    health: Health
    problems: tuple[str, ...] = ()
    age: Age | None = None
    """None where there is no ledger to ask."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Names by what they wait for, as in `DrainReport.waiting`."""
    by_source: tuple[tuple[str, str, int], ...] = ()
    """Source, what its names wait for, how many."""
    waiting_complete: bool = True
    """False where the ledger is too large to be counted: then there are more, and entries are counted, not names."""
    next_due: datetime | None = None
    holders: tuple[tuple[int | None, str | None, str | None, timedelta], ...] = ()
    """Open transactions that names wait for: pid, user, application, open for at least: 0 where that is unknown."""
    prepared: tuple[tuple[str, str, datetime], ...] = ()
    """Prepared transactions, which hold everything back: id, owner, since when."""
    errors: tuple[tuple[str, int, str, datetime | None, bool], ...] = ()
    """Error, number of names, one of them, next retry, whether it was given up."""
    coverage: Coverage | None = None
    recent: dict[str, int] = field(default_factory=dict)
    """Entries settled in the last 24 hours, by outcome."""
    recent_bytes: int = 0
    last_settled: datetime | None = None
    drained_at: datetime | None = None
    """When a drain began last, whatever it found."""
    pause: Pause | None = None
    """Who paused the drains, if they are paused."""


def look(using: str, refusals: Sequence[str] = ()) -> Status:
    """Look at one database. Reads up to `state.LOOKED_AT` entries of the ledger, and no table of a user's.

    With `refusals`, sentences that say why every drain refuses to start, the database is broken. Raises
    nothing of the database's: what cannot be read is a problem, and the health is broken.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return _broken(using, f'Database "{using}" is {connection.display_name}; pgcleanup works on PostgreSQL only.')
    if bad := list(conf.problems()):
        return _broken(using, *(refusals or bad))
    try:
        return _look(using, refusals)
    except DatabaseError:
        found = find_problems(using)
        return _broken(using, *refusals, *[str(problem) for problem in found])


def too_young(using: str, limit: int = 5) -> Sequence[tuple[str, datetime]]:
    """Return a few names whose files are within PGCLEANUP_UPLOAD_WINDOW, and when they are tried again."""
    return sql.fetch(using, _TOO_YOUNG, {"limit": limit})


def _look(using: str, refusals: Sequence[str]) -> Status:
    found = find_problems(using, as_drain=True)
    inspection = inspect(using)
    if inspection is None:
        return _broken(
            using,
            *refusals,
            *[str(problem) for problem in found] or [f'Database "{using}" has no ledger. {how_to_make_tables(using)}'],
        )
    grace = settings.grace_period
    recent = sql.fetch(using, _RECENT, {"recently": RECENTLY})
    last = max((row[3] for row in recent), default=None) or next(iter(sql.fetch(using, _LAST_SETTLED)), (None,))[0]
    broken = bool(refusals) or any(problem.broken for problem in found)
    is_large = state.is_large(using)
    if is_large:
        waiting, by_source = gauges.look(using, grace).waiting, bounded.by_source(using, grace, state.LOOKED_AT)
    else:
        waiting = state.waiting(using, grace, find_file_columns(using))
        by_source = state.waiting_by_source(using, grace)
    known = control.read(using) if control.exists(using) else control.Control()
    return Status(
        database=using,
        health=Health.BROKEN if broken else Health.BEHIND if found else Health.HEALTHY,
        problems=(*refusals, *(_told(problem) for problem in found)),
        age=age(using),
        waiting=waiting,
        by_source=tuple(by_source),
        waiting_complete=not is_large,
        # What has failed for good keeps its stamp, which is of no use to it any more.
        next_due=state.next_due(using, grace) if waiting.get("grace_period") else None,
        holders=tuple(tuple(row[:4]) for row in fence.holders(using, grace)),
        prepared=tuple(fence.prepared_transactions(using)),
        errors=tuple(state.errors(using)),
        coverage=coverage_of(inspection),
        recent={outcome: count for outcome, count, _, _ in recent},
        recent_bytes=sum(row[2] for row in recent),
        last_settled=last,
        drained_at=known.drained_at,
        pause=known.pause,
    )


def _told(problem: Problem) -> str:
    # The errors stand below in the same output.
    return problem.sentence if problem.kind is Kind.FAILED else str(problem)


def _broken(using: str, *problems: str) -> Status:
    return Status(database=using, health=Health.BROKEN, problems=problems)
