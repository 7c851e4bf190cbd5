"""Ending a claim: settle it with its outcome, or leave it for later."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connections
from psycopg import ClientCursor

from pgcleanup import sql
from pgcleanup.conf import settings

# By claimed id, never by name: an entry of the same name that came meanwhile is not ours to settle.
_SETTLE = """
WITH done AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(outcomes)s::text[], %(reasons)s::text[], %(bytes)s::bigint[])
                  AS d(id, outcome, reason, bytes)
), gone AS (
    DELETE FROM pending_file_deletion p USING done WHERE p.id = done.id
    RETURNING p.*, done.outcome, done.reason, done.bytes
)
INSERT INTO settled_file_deletion (id, source, name, object_pk, operation, transaction_id, db_user, application_name,
       context, keep, recorded_at, attempts, last_error, cancelled_at, stamped_at, outcome, reason, bytes, drained_by)
SELECT {id}, g.source, g.name, g.object_pk, g.operation, g.transaction_id, g.db_user, g.application_name,
       g.context, g.keep, g.recorded_at, g.attempts, g.last_error, g.cancelled_at, s.stamped_at, g.outcome, g.reason,
       g.bytes, %(drained_by)s
  FROM gone g
  LEFT JOIN file_deletion_stamp s ON s.id = g.stamp_id
-- Another drain has taken the same one at this moment: what is gone must settle all the same.
ON CONFLICT (id) DO NOTHING
"""

# After loaddata or a sequence reset ids may be in the history already, of other entries.
_TAKEN = "SELECT EXISTS (SELECT FROM settled_file_deletion WHERE id = ANY (%(ids)s::bigint[]))"
_BEYOND_ALL = "g.id + greatest((SELECT max(id) FROM settled_file_deletion), (SELECT max(id) FROM gone))"

_SELECT_AT_ONCE = """
SELECT id, source, name FROM pending_file_deletion
 WHERE stamp_id IS NOT NULL AND {condition}
 LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_IS_DEFAULT = """
hashtextextended(name, 0) = hashtextextended(%(name)s, 0) AND name = %(name)s AND source = ANY (%(sources)s)
"""
_IS_EXCLUDED = "source = ANY (%(sources)s)"
_AT_ONCE_LIMIT = 10_000

# What is left alone goes out of the index of due entries until retry_at, without counting an attempt. The
# reason takes last_error's place only where there is no error to lose.
_LEAVE = """
UPDATE pending_file_deletion p
   SET retry_at = greatest(p.retry_at, clock_timestamp() + l.wait),
       last_error = CASE WHEN p.attempts = 0 THEN l.reason ELSE p.last_error END
  FROM unnest(%(ids)s::bigint[], %(waits)s::interval[], %(reasons)s::text[]) AS l(id, wait, reason)
 WHERE p.id = l.id
"""

# Backoff from 30 s, doubling to 6 h, with up to half as much again at random, so that the names of one
# outage do not all come back in one moment. All entries of a name count together.
_POSTPONE = """
UPDATE pending_file_deletion p
   SET attempts = e.attempts,
       last_error = e.error,
       retry_at = clock_timestamp()
                  + least(interval '6 hours', interval '30 seconds' * 2 ^ least(e.attempts - 1, 20))
                    * (1 + random() / 2),
       exhausted_at = CASE WHEN e.attempts >= %(max_attempts)s THEN clock_timestamp() END
  FROM unnest(%(ids)s::bigint[], %(attempts)s::int[], %(errors)s::text[]) AS e(id, attempts, error)
 WHERE p.id = e.id
"""

PUT_OFF = "retrying: "
"""Begins the reason of what was put off because its storage failed."""
_SHORTEST_WAIT = timedelta(seconds=30)
_ERROR_LENGTH = 2_000


class Settlement(NamedTuple):
    """Entries of one name, and what became of it."""

    ids: Sequence[int]
    outcome: str
    reason: str = ""
    bytes: int | None = None


class Leave(NamedTuple):
    """Entries of one name that are not to be looked at again before `wait` is over."""

    ids: Sequence[int]
    wait: timedelta
    reason: str


class Postponement(NamedTuple):
    """Entries of one name that failed; `attempts` includes this one."""

    ids: Sequence[int]
    attempts: int
    error: str

    @property
    def is_last(self) -> bool:
        """Whether no attempt is left."""
        return self.attempts >= settings.max_attempts


Record = Settlement | Leave | Postponement


def write(using: str, records: Sequence[Record], drained_by: str) -> None:
    """Write what became of the claimed names. Inside the claim's transaction."""
    settle(using, [one for one in records if isinstance(one, Settlement)], drained_by)
    leave(using, [one for one in records if isinstance(one, Leave)])
    postpone(using, [one for one in records if isinstance(one, Postponement)])


def settle(using: str, settlements: Iterable[Settlement], drained_by: str) -> None:
    """Move entries to the history. Inside the claim's transaction; the bytes stand on the first entry of a name."""
    ids: list[int] = []
    outcomes: list[str] = []
    reasons: list[str] = []
    sizes: list[int | None] = []
    for settlement in settlements:
        more = len(settlement.ids) - 1
        ids += settlement.ids
        outcomes += [settlement.outcome] * (more + 1)
        reasons += [settlement.reason] * (more + 1)
        sizes += [settlement.bytes, *[None] * more]
    if ids:
        values = {
            "ids": sql.integer_array(ids),
            "outcomes": sql.text_array(outcomes),
            "reasons": sql.text_array(reasons),
            "bytes": sql.integer_array(sizes),
            "drained_by": drained_by,
        }
        taken = sql.fetch(using, _TAKEN, values)[0][0]
        sql.execute(using, _SETTLE.format(id=_BEYOND_ALL if taken else "g.id"), values)


def leave(using: str, leaves: Iterable[Leave]) -> None:
    """Put entries off without counting an attempt."""
    if values := _of_leaves(leaves):
        sql.execute(using, _LEAVE, values)


def postpone(using: str, postponements: Iterable[Postponement]) -> None:
    """Put entries off after a failure, with its error, or give up on those that have no attempt left."""
    if values := _of_postponements(postponements):
        sql.execute(using, _POSTPONE, values)


def down_wait() -> timedelta:
    """Return how long the names of a storage that failed as a whole wait: not all of one outage till one moment."""
    return _SHORTEST_WAIT * (1 + random.random() / 2)  # noqa: S311 -- no secret


def send_after_us(using: str, postponements: Iterable[Postponement], leaves: Iterable[Leave]) -> None:
    """Send what is to become of claimed entries on this thread's own connection, and do not wait for it.

    The server carries it out once the claim is gone, which another thread holds in a call that hangs: so
    not before the process has ended, and the call with it.
    """
    values = [(_POSTPONE, _of_postponements(postponements)), (_LEAVE, _of_leaves(leaves))]
    if not any(bound for _, bound in values):
        return
    connections[using].ensure_connection()
    raw: Any = connections[using].connection
    statements = ["SET lock_timeout = '1min'; SET statement_timeout = '1min'"]
    statements += [ClientCursor(raw).mogrify(statement, bound) for statement, bound in values if bound]
    # One message, so that all of it is with the server when we are gone; one transaction for the server.
    raw.pgconn.send_query(";".join(statements).encode(raw.info.encoding))
    while raw.pgconn.flush():
        pass


def _of_leaves(leaves: Iterable[Leave]) -> dict[str, Any]:
    rows = [(id_, one.wait, one.reason[:_ERROR_LENGTH]) for one in leaves for id_ in one.ids]
    if not rows:
        return {}
    ids, waits, reasons = (list(part) for part in zip(*rows, strict=True))
    return {"ids": ids, "waits": waits, "reasons": reasons}


def _of_postponements(postponements: Iterable[Postponement]) -> dict[str, Any]:
    rows = [(id_, one.attempts, one.error[:_ERROR_LENGTH]) for one in postponements for id_ in one.ids]
    if not rows:
        return {}
    ids, attempts, errors = zip(*rows, strict=True)
    return {
        "ids": sql.integer_array(ids),
        "attempts": sql.integer_array(attempts),
        "errors": sql.text_array(errors),
        "max_attempts": settings.max_attempts,
    }


def settle_default(using: str, name: str, sources: Sequence[str], drained_by: str) -> set[tuple[str, str]]:
    """Settle some entries of a name that is a field's default, before grace and fence, as kept.

    There can be a million of them: never more than a batch at a time.

    Returns:
        Source and name of what was settled; empty means that no more can be taken.
    """
    return _settle_at_once(using, _IS_DEFAULT, {"name": name, "sources": list(sources)}, "default", drained_by)


def settle_excluded(using: str, sources: Sequence[str], drained_by: str) -> set[tuple[str, str]]:
    """Settle some entries of columns that are excluded by now, as kept. Returns what `settle_default` does."""
    return _settle_at_once(using, _IS_EXCLUDED, {"sources": list(sources)}, "excluded", drained_by)


def _settle_at_once(
    using: str, condition: str, values: dict[str, object], reason: str, drained_by: str
) -> set[tuple[str, str]]:
    statement = _SELECT_AT_ONCE.format(condition=condition)
    rows = sql.fetch(using, statement, {**values, "limit": _AT_ONCE_LIMIT})
    settle(using, [Settlement([row[0] for row in rows], "kept", reason)], drained_by)
    return {(source, name) for _, source, name in rows}
