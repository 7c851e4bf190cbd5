"""Looks at ledger and history that read no more than a page of the admin can wait for, however large they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction

from pgcleanup import sql
from pgcleanup.ledger.fence import OPEN_TRANSACTIONS, fence_parameters

# Each branch reads a part of an index, up to the limit. LATERAL with a LIMIT of its own: else the planner may join
# by reading the whole ledger. The words are those of ledger.state, but for "unseen", which is its grace_period
# before a drain has seen the entry.
_COUNTS = f"""
WITH open_transactions AS MATERIALIZED (SELECT ARRAY({OPEN_TRANSACTIONS}) AS vxids),
stamps AS MATERIALIZED (
    SELECT s.id, CASE WHEN s.stamped_at > clock_timestamp() - %(grace)s THEN 'grace_period'
                      WHEN s.fence && o.vxids THEN 'transaction' ELSE 'due' END AS state
      FROM file_deletion_stamp s
     CROSS JOIN open_transactions o
), ready AS (
    SELECT e.source, k.state
      FROM (VALUES ('grace_period'), ('transaction'), ('due')) AS k(state)
     CROSS JOIN LATERAL (
        SELECT p.source
          FROM stamps s
         CROSS JOIN LATERAL (
            SELECT p.source FROM pending_file_deletion p
             WHERE p.stamp_id = s.id AND p.retry_at IS NULL AND p.exhausted_at IS NULL
             LIMIT %(limit)s) p
         WHERE s.state = k.state
         LIMIT %(limit)s) e
)
SELECT branch, state, source, count(*)
  FROM (SELECT state AS branch, state, source FROM ready
        UNION ALL
        (SELECT 'unseen', 'unseen', source FROM pending_file_deletion
          WHERE stamp_id IS NULL AND exhausted_at IS NULL LIMIT %(limit)s)
        UNION ALL
        (SELECT 'failed', 'failed', source FROM pending_file_deletion
          WHERE retry_at IS NOT NULL AND exhausted_at IS NOT NULL ORDER BY retry_at LIMIT %(limit)s)
        UNION ALL
        (SELECT 'retry',
                CASE WHEN s.state <> 'due' THEN s.state
                     WHEN p.retry_at <= clock_timestamp() THEN 'due'
                     WHEN p.attempts > 0 THEN 'retrying'
                     ELSE split_part(p.last_error, ':', 1) END,
                p.source
           FROM (SELECT * FROM pending_file_deletion
                  WHERE retry_at IS NOT NULL AND exhausted_at IS NULL ORDER BY retry_at DESC LIMIT %(limit)s) p
           LEFT JOIN stamps s ON s.id = p.stamp_id)) e
 GROUP BY branch, state, source
"""  # noqa: S608 -- only constants

_STAMPS_HELD = f"""
SELECT s.id FROM file_deletion_stamp s
 WHERE s.stamped_at <= clock_timestamp() - %(grace)s AND s.fence && ARRAY({OPEN_TRANSACTIONS})
"""  # noqa: S608
_STAMPS_IN_GRACE = "SELECT s.id FROM file_deletion_stamp s WHERE s.stamped_at > clock_timestamp() - %(grace)s"

# A block range index finds the days: the history comes in the order of its settlement.
_DAYS = """
SELECT (settled_at AT TIME ZONE %(zone)s)::date, outcome, count(*), coalesce(sum(bytes), 0)::bigint,
       max(settled_at - recorded_at), min(recorded_at)
  FROM settled_file_deletion
 WHERE settled_at >= %(since)s
 GROUP BY 1, 2
"""
_DRAINS = """
SELECT drained_by, min(settled_at), max(settled_at), count(*), count(*) FILTER (WHERE outcome = 'deleted'),
       coalesce(sum(bytes), 0)::bigint
  FROM settled_file_deletion
 WHERE settled_at >= %(since)s
 GROUP BY drained_by
 ORDER BY 3 DESC
 LIMIT %(limit)s
"""
_FIRST_AND_LAST = """
(SELECT {column} FROM {table} ORDER BY id LIMIT 1) UNION ALL (SELECT {column} FROM {table} ORDER BY id DESC LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Count:
    """Entries of one field in one state."""

    state: str
    source: str
    entries: int
    capped: bool
    """Whether more were there than were counted, of this field or of others in the same state."""


@dataclass(frozen=True, slots=True)
class Day:
    """What was settled on a day with one outcome."""

    day: date
    outcome: str
    entries: int
    bytes: int
    longest: timedelta
    """From the record of a name to its settlement."""
    oldest: datetime
    """When the oldest of their names was recorded: it was pending on all days in between."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What one process settled, of late."""

    by: str
    began: datetime
    ended: datetime
    settled: int
    deleted: int
    bytes: int


@contextmanager
def at_most(using: str, seconds: float) -> Iterator[None]:
    """Let no statement of the block run longer; the one that would ends in an OperationalError."""
    with transaction.atomic(using=using):
        before = sql.fetch(using, "SELECT current_setting('statement_timeout')")[0][0]
        sql.set_local(using, statement_timeout=sql.milliseconds(seconds))
        yield
        # Of an outer transaction the rest may take its time again.
        sql.set_local(using, statement_timeout=before)


def counts(using: str, grace: timedelta, limit: int) -> list[Count]:
    """Count the entries by state and source, of each state up to `limit`."""
    rows = sql.fetch(using, _COUNTS, {"grace": grace, "limit": limit + 1, **fence_parameters()})
    totals: dict[str, int] = {}
    for branch, _, _, entries in rows:
        totals[branch] = totals.get(branch, 0) + entries
    return [Count(state, source, entries, totals[branch] > limit) for branch, state, source, entries in rows]


def by_source(using: str, grace: timedelta, limit: int) -> list[tuple[str, str, int]]:
    """Return source, reason in the words of `ledger.state`, and entries: one more than `limit` of a reason at most."""
    found: Counter[tuple[str, str]] = Counter()
    for count in counts(using, grace, limit):
        found[count.source, "grace_period" if count.state == "unseen" else count.state] += count.entries
    return [(source, reason, entries) for (source, reason), entries in sorted(found.items())]


def stamps_in_grace(using: str, grace: timedelta) -> list[int]:
    """Return the stamps whose entries wait out their grace period."""
    return [row[0] for row in sql.fetch(using, _STAMPS_IN_GRACE, {"grace": grace})]


def stamps_held(using: str, grace: timedelta) -> list[int]:
    """Return the stamps whose entries wait for nothing but open transactions."""
    return [row[0] for row in sql.fetch(using, _STAMPS_HELD, {"grace": grace, **fence_parameters()})]


def settled_by_day(using: str, since: datetime, zone: str) -> list[Day]:
    """Return what was settled since then, by day in that time zone, and by outcome."""
    return [Day(*row) for row in sql.fetch(using, _DAYS, {"since": since, "zone": zone})]


def last_drains(using: str, since: datetime, limit: int = 5) -> list[Drained]:
    """Return what processes settled since then, the latest first. A drain that settled nothing left no trace."""
    return [Drained(*row) for row in sql.fetch(using, _DRAINS, {"since": since, "limit": limit})]


def first_and_last(using: str, table: str, column: str) -> tuple[datetime, datetime] | None:
    """Return about the earliest and the latest time in a table; None where it is empty."""
    statement = _FIRST_AND_LAST.format(table=sql.quote_identifier(table), column=sql.quote_identifier(column))
    times = sorted(row[0] for row in sql.fetch(using, statement))
    return (times[0], times[-1]) if times else None
