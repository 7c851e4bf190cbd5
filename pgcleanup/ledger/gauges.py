"""Counts of the ledger for a monitoring system, which asks often: bounded, and from indexes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pgcleanup import sql
from pgcleanup.ledger import state
from pgcleanup.ledger.fence import OPEN_TRANSACTIONS, fence_parameters

COUNTED = 100_000
"""No further is counted, of what waits for its first attempt and of what waits for another one."""
_READ = 10_000
"""So many of the latter are read for their reason; the ledger has no index of it."""

# ORDER BY what the index has, in each branch: the planner then reads that index, and nothing but the index, until
# the LIMIT. The oldest come first, so a count that is cut short is right about what is due. The words are those of
# ledger.state.
WAITING = f"""
WITH open_transactions AS MATERIALIZED (SELECT ARRAY({OPEN_TRANSACTIONS}) AS vxids),
stamps AS MATERIALIZED (
    SELECT s.id, CASE WHEN s.stamped_at > clock_timestamp() - %(grace)s THEN 'grace_period'
                      WHEN s.fence && o.vxids THEN 'transaction' ELSE 'due' END AS reason
      FROM file_deletion_stamp s
     CROSS JOIN open_transactions o
), ready AS (
    SELECT p.stamp_id, count(*) AS entries
      FROM (SELECT stamp_id FROM pending_file_deletion
             WHERE stamp_id IS NOT NULL AND retry_at IS NULL AND exhausted_at IS NULL
             ORDER BY stamp_id, id LIMIT %(limit)s) p
     GROUP BY p.stamp_id
)
SELECT 'first', 'grace_period', count(*)
  FROM (SELECT id FROM pending_file_deletion WHERE stamp_id IS NULL ORDER BY id LIMIT %(limit)s) p
UNION ALL
SELECT 'first', coalesce(s.reason, 'grace_period'), sum(r.entries)::bigint
  FROM ready r
  LEFT JOIN stamps s ON s.id = r.stamp_id
 GROUP BY 2
UNION ALL
SELECT 'again', r.reason, count(*)
  FROM (SELECT CASE WHEN p.exhausted_at IS NOT NULL THEN 'failed'
                    WHEN s.reason <> 'due' THEN s.reason
                    WHEN p.retry_at <= clock_timestamp() THEN 'due'
                    WHEN p.attempts > 0 THEN 'retrying'
                    ELSE split_part(p.last_error, ':', 1) END AS reason
          FROM (SELECT stamp_id, exhausted_at, retry_at, attempts, last_error FROM pending_file_deletion
                 WHERE retry_at IS NOT NULL ORDER BY retry_at LIMIT %(read)s) p
          LEFT JOIN stamps s ON s.id = p.stamp_id) r
 GROUP BY 2
UNION ALL
-- Beyond those that were read: there are so many only while a storage does not answer.
SELECT 'again', 'retrying', count(*)
  FROM (SELECT retry_at FROM pending_file_deletion
         WHERE retry_at IS NOT NULL ORDER BY retry_at OFFSET %(read)s LIMIT %(limit)s) p
"""  # noqa: S608 -- only constants

_NEXT_RETRY = "SELECT min(retry_at) FROM pending_file_deletion WHERE retry_at > clock_timestamp()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is pending. Counts are of entries: a name that was let go twice counts twice."""

    waiting: dict[str, int] = field(default_factory=dict)
    """By the reason they wait for, and `due`; only reasons that there are."""
    complete: bool = True
    """False where there are more than were counted."""
    oldest: timedelta | None = None
    """How long the oldest entry is past its grace period; None where nothing is pending."""
    next_due: datetime | None = None
    """When something comes out of its grace period or is tried again, as far as that is known."""
    now: datetime
    """The database's time of the look."""

    @property
    def pending(self) -> int:
        """How many have not failed for good."""
        return sum(self.waiting.values()) - self.waiting.get("failed", 0)


def look(using: str, grace: timedelta) -> Backlog:
    """Count what is pending: five statements, none of which reads more than a part of an index."""
    rows = sql.fetch(using, WAITING, parameters(grace))
    totals: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for branch, reason, entries in rows:
        totals[branch] += entries
        waiting[reason] += entries
    retry = sql.fetch(using, _NEXT_RETRY)[0][0]
    due = state.next_due(using, grace) if waiting["grace_period"] else None
    return Backlog(
        waiting={reason: entries for reason, entries in waiting.items() if entries},
        complete=max(totals.values()) < COUNTED,
        oldest=state.oldest_age(using, grace),
        next_due=min((time for time in (due, retry) if time is not None), default=None),
        now=state.now(using),
    )


def parameters(grace: timedelta) -> dict[str, object]:
    """Return what `WAITING` takes."""
    return {"grace": grace, "limit": COUNTED, "read": _READ, **fence_parameters()}
