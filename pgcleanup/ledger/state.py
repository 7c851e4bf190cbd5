"""Looking at the ledger without changing it: what waits, for what, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from pgcleanup import sql
from pgcleanup.columns import FileColumns
from pgcleanup.ledger.fence import OPEN_TRANSACTIONS, fence_parameters

# Why an entry is still here, by the words of DrainReport.waiting. `due` is none of them: the next drain
# takes it. What an earlier drain left carries its reason in last_error (see settling.Leave).
_REASONS = f"""
WITH open_transactions AS MATERIALIZED (SELECT ARRAY({OPEN_TRANSACTIONS}) AS vxids)
SELECT p.id, p.source, p.name, s.stamped_at, p.retry_at, p.attempts, p.last_error,
       CASE WHEN p.exhausted_at IS NOT NULL THEN 'failed'
            WHEN p.stamp_id IS NULL OR s.stamped_at > clock_timestamp() - %(grace)s THEN 'grace_period'
            WHEN s.fence && o.vxids THEN 'transaction'
            WHEN p.retry_at > clock_timestamp() AND p.attempts > 0 THEN 'retrying'
            WHEN p.retry_at > clock_timestamp() THEN split_part(p.last_error, ':', 1)
            ELSE 'due'
       END AS reason
  FROM pending_file_deletion p
  CROSS JOIN open_transactions o
  LEFT JOIN file_deletion_stamp s ON s.id = p.stamp_id
"""  # noqa: S608 -- only constants

# Each name once, by what it will wait for longest: due entries of it are left alone as long as one waits
# out its grace period or a transaction, and take those along that wait for a retry. Two sources of one
# storage name one file.
_COUNT_NAMES = f"""
SELECT substr(first, 2), count(*)
  FROM (SELECT min(CASE reason WHEN 'grace_period' THEN '1' WHEN 'transaction' THEN '2' WHEN 'due' THEN '3'
                               WHEN 'failed' THEN '5' ELSE '4' END || reason COLLATE "C") AS first
          FROM ({_REASONS}) r
          LEFT JOIN unnest(%(sources)s::text[], %(places)s::text[]) AS w(source, place) USING (source)
         GROUP BY coalesce(place, source), name) n
 GROUP BY first
"""  # noqa: S608
_COUNT_BY_SOURCE = (
    f"SELECT source, reason, count(DISTINCT name) FROM ({_REASONS}) r GROUP BY source, reason ORDER BY source, reason"  # noqa: S608
)

_REASONS_BY_ID = f"SELECT id, reason, stamped_at FROM ({_REASONS}) r WHERE id = ANY (%(ids)s)"  # noqa: S608

_NEXT_DUE = """
SELECT min(s.stamped_at) + %(grace)s
  FROM file_deletion_stamp s
 WHERE s.stamped_at > clock_timestamp() - %(grace)s
"""

# From the two indexes: a few of those that wait may be the last of ten million entries.
_NAMES_WAITING = """
(SELECT p.name, s.stamped_at + %(grace)s
   FROM file_deletion_stamp s
  CROSS JOIN LATERAL (
     SELECT p.name FROM pending_file_deletion p
      WHERE p.stamp_id = s.id AND p.retry_at IS NULL AND p.exhausted_at IS NULL
      ORDER BY p.stamp_id, p.id LIMIT %(limit)s) p
  WHERE s.stamped_at > clock_timestamp() - %(grace)s
  ORDER BY s.stamped_at LIMIT %(limit)s)
UNION ALL
(SELECT name, clock_timestamp() + %(grace)s FROM pending_file_deletion
  WHERE stamp_id IS NULL AND exhausted_at IS NULL ORDER BY id LIMIT %(limit)s)
LIMIT %(limit)s
"""

_ERRORS = """
SELECT regexp_replace(last_error, '^retrying: ', ''), count(DISTINCT name), min(name), min(retry_at),
       exhausted_at IS NOT NULL
  FROM (SELECT * FROM pending_file_deletion WHERE retry_at IS NOT NULL ORDER BY retry_at LIMIT %(looked_at)s) p
 WHERE attempts > 0 OR starts_with(last_error, 'retrying: ')
 GROUP BY last_error, exhausted_at IS NOT NULL
 ORDER BY 2 DESC
 LIMIT %(limit)s
"""

# By id, which grows with recorded_at but for transactions of the same moment: the primary key answers.
_OLDEST = """
SELECT recorded_at FROM pending_file_deletion WHERE exhausted_at IS NULL ORDER BY id LIMIT 1
"""

# The oldest: what no installed model has any more stays, and so comes to stand there.
_SOURCES = """
SELECT DISTINCT source FROM (SELECT source FROM pending_file_deletion ORDER BY id LIMIT %(looked_at)s) p ORDER BY source
"""
_IS_LARGE = "SELECT count(*) > %(looked_at)s FROM (SELECT FROM pending_file_deletion LIMIT %(looked_at)s + 1) p"

_PAGE = f"""
WITH open_transactions AS MATERIALIZED (SELECT ARRAY({OPEN_TRANSACTIONS}) AS vxids)
SELECT p.id, p.source, p.name, p.object_pk, p.operation, p.keep, p.cancelled_at IS NOT NULL, p.attempts,
       p.exhausted_at IS NOT NULL, s.stamped_at, p.retry_at, coalesce(s.fence && o.vxids, false)
  FROM pending_file_deletion p
  CROSS JOIN open_transactions o
  LEFT JOIN file_deletion_stamp s ON s.id = p.stamp_id
 WHERE p.id > %(after)s
 ORDER BY p.id
 LIMIT %(limit)s
"""  # noqa: S608


LOOKED_AT = 100_000
"""So many entries at most are read for what is only told to people."""


def is_large(using: str) -> bool:
    """Whether the ledger has more than LOOKED_AT entries, which nobody should wait for to be counted."""
    found: bool = sql.fetch(using, _IS_LARGE, {"looked_at": LOOKED_AT})[0][0]
    return found


def now(using: str) -> datetime:
    """Return the database's time of day."""
    value: datetime = sql.fetch(using, "SELECT clock_timestamp()")[0][0]
    return value


def waiting(using: str, grace: timedelta, columns: FileColumns) -> dict[str, int]:
    """Count the names still in the ledger by the reason they wait for; `due` where they wait for nothing."""
    places = {column.source: column.storage_key for column in columns.stored}
    values = {"grace": grace, "sources": list(places), "places": list(places.values()), **fence_parameters()}
    return dict(sql.fetch(using, _COUNT_NAMES, values))


def waiting_by_source(using: str, grace: timedelta) -> list[tuple[str, str, int]]:
    """Return source, reason and number of names, ordered by source."""
    return sql.fetch(using, _COUNT_BY_SOURCE, {"grace": grace, **fence_parameters()})


def reasons(using: str, ids: Sequence[int], grace: timedelta) -> dict[int, tuple[str, datetime | None]]:
    """Return, by the id of an entry, what it waits for and when a drain saw it first."""
    rows = sql.fetch(using, _REASONS_BY_ID, {"ids": list(ids), "grace": grace, **fence_parameters()})
    return {id_: (reason, stamped_at) for id_, reason, stamped_at in rows}


def next_due(using: str, grace: timedelta) -> datetime | None:
    """Return when the next stamped entry is past its grace period; None where none waits for that."""
    value: datetime | None = sql.fetch(using, _NEXT_DUE, {"grace": grace})[0][0]
    return value


def names_in_grace(using: str, grace: timedelta, limit: int) -> Sequence[tuple[str, datetime]]:
    """Return a few names in their grace period, and when they are due at the earliest."""
    return sql.fetch(using, _NAMES_WAITING, {"grace": grace, "limit": limit})


def errors(using: str, limit: int = 5) -> Sequence[tuple[Any, ...]]:
    """Return error, number of names, one of them, next retry, and whether they are given up on; most names first."""
    return sql.fetch(using, _ERRORS, {"limit": limit, "looked_at": LOOKED_AT})


def oldest_age(using: str, grace: timedelta) -> timedelta | None:
    """Return the one number: how long the oldest entry that is not exhausted is past its grace period, at least 0.

    Counted from `recorded_at`. None where nothing is pending.
    """
    rows = sql.fetch(using, _OLDEST)
    return max(now(using) - rows[0][0] - grace, timedelta(0)) if rows else None


def sources(using: str, *, looked_at: int | None = None) -> list[str]:
    """Return the sources that have an entry, sorted; of a large ledger, those of its oldest entries."""
    return [row[0] for row in sql.fetch(using, _SOURCES, {"looked_at": looked_at or LOOKED_AT})]


def pages(using: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the whole ledger by id, a page at a time, without a lock; for a forecast."""
    after = 0
    while rows := sql.fetch(using, _PAGE, {"after": after, "limit": size, **fence_parameters()}):
        yield rows
        after = rows[-1][0]
