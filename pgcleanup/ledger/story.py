"""All that the ledger and its history know of one name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pgcleanup import sql
from pgcleanup.ledger import state
from pgcleanup.ledger.history import PENDING, SETTLED, Event

# Two branches, since the index of names has no unstamped entries.
_PENDING_OF = f"""
SELECT {PENDING}, p.stamp_id, p.retry_at
  FROM (SELECT * FROM pending_file_deletion
         WHERE hashtextextended(name, 0) = hashtextextended(%(name)s, 0) AND stamp_id IS NOT NULL
         UNION ALL
        SELECT * FROM pending_file_deletion WHERE stamp_id IS NULL) p
 WHERE p.name = %(name)s
 ORDER BY p.id
"""  # noqa: S608 -- only constants

_SETTLED_OF = f"SELECT {SETTLED} FROM settled_file_deletion WHERE name = %(name)s ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608

# The transactions in the fences of these stamps that are still open.
_HOLDERS = """
SELECT DISTINCT s.id, a.pid, a.usename::text, a.application_name
  FROM file_deletion_stamp s
  JOIN pg_locks l ON l.locktype = 'virtualxid' AND l.virtualtransaction = ANY (s.fence)
                 AND l.pid IS DISTINCT FROM pg_backend_pid()
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE s.id = ANY (%(stamps)s)
 ORDER BY 1, 2
"""


class HeldBy(NamedTuple):
    """A session whose transaction a name waits for; all None where the role may not see it."""

    pid: int | None
    user: str | None
    application: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEntry:
    """An entry of the ledger, and what it waits for."""

    event: Event
    waiting: str
    """As in `DrainReport.waiting`; "due" where it waits for nothing but a drain."""
    seen_at: datetime | None
    """When a drain saw it first; the grace period begins then."""
    due_at: datetime | None
    """When its grace period is over."""
    retry_at: datetime | None
    holders: tuple[HeldBy, ...] = ()
    """Of "transaction"."""


def pending_entries(using: str, name: str, grace: timedelta) -> list[PendingEntry]:
    """Return the entries of a name, oldest first, of whatever storage."""
    rows = sql.fetch(using, _PENDING_OF, {"name": name})
    reasons = state.reasons(using, [row[0] for row in rows], grace) if rows else {}
    held = _holders(using, [row[-2] for row in rows if reasons.get(row[0], ("",))[0] == "transaction"])
    found = []
    for *fields, stamp_id, retry_at in rows:
        event = Event(*fields)
        # A drain may have settled it since.
        reason, seen_at = reasons.get(event.id, ("due", None))
        found.append(
            PendingEntry(
                event=event,
                waiting=reason,
                seen_at=seen_at,
                due_at=seen_at + grace if seen_at is not None else None,
                retry_at=retry_at,
                holders=tuple(held.get(stamp_id, ())) if reason == "transaction" else (),
            )
        )
    return found


def settled_events(using: str, name: str, limit: int) -> list[Event]:
    """Return what is in the history of a name, newest first. Reads the history: it has no index of names."""
    return [Event(*row) for row in sql.fetch(using, _SETTLED_OF, {"name": name, "limit": limit})]


def _holders(using: str, stamps: Sequence[int]) -> dict[int, list[HeldBy]]:
    held: dict[int, list[HeldBy]] = {}
    for stamp, *session in sql.fetch(using, _HOLDERS, {"stamps": list(stamps)}) if stamps else ():
        held.setdefault(stamp, []).append(HeldBy(*session))
    return held
