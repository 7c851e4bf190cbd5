"""Open transactions, stamps and fences: what a name that was let go must wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from django.db import connections

from pgcleanup import sql
from pgcleanup.conf import settings

STAMP_SIZE = 10_000

# The virtual transaction ids open in this database, not mine. Every open transaction has one, from its
# BEGIN to its end, and any role may read them; pg_stat_activity only narrows them down, so a session that
# it does not (yet) know counts. Autovacuum, which writes no file name, has no user.
OPEN_TRANSACTIONS = """
SELECT l.virtualtransaction
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'virtualxid'
   AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND (a.pid IS NULL
        OR (a.datname = current_database() AND a.usesysid IS NOT NULL
            AND a.usename <> ALL (%(unfenced_roles)s::name[])))
"""

# One statement: its snapshot, which shows the entries as committed, is taken before it reads pg_locks. The
# other way round, a transaction that began in between could carry a name and stand in no fence.
_STAMP_SEEN = f"""
WITH seen AS MATERIALIZED ({{seen}}), stamp AS (
    INSERT INTO file_deletion_stamp (fence)
    SELECT ARRAY({OPEN_TRANSACTIONS}) WHERE EXISTS (SELECT FROM seen)
    RETURNING id
)
UPDATE pending_file_deletion p
   SET stamp_id = stamp.id
  FROM seen, stamp
 WHERE p.id = seen.id
"""  # noqa: S608 -- only constants
_UNSTAMPED = """
    SELECT id FROM pending_file_deletion WHERE stamp_id IS NULL ORDER BY id LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
"""
# Of one transaction that has just committed. Its entries are among the newest: a backlog is not searched for them.
_UNSTAMPED_OF_TRANSACTION = """
    SELECT id FROM pending_file_deletion
     WHERE stamp_id IS NULL AND transaction_id = %(transaction_id)s
       AND id > coalesce((SELECT id FROM pending_file_deletion WHERE stamp_id IS NULL
                           ORDER BY id DESC OFFSET %(newest)s LIMIT 1), 0)
     ORDER BY id LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
"""
_STAMP = _STAMP_SEEN.format(seen=_UNSTAMPED)
_STAMP_TRANSACTION = _STAMP_SEEN.format(seen=_UNSTAMPED_OF_TRANSACTION) + "RETURNING p.source, p.name, p.stamp_id"

# Of entries that are claimed, and that no row named a moment ago. They keep the time of their stamp: their grace
# period is over.
_STAMP_ANEW = f"""
WITH stamp AS (
    INSERT INTO file_deletion_stamp (stamped_at, fence, checked)
    SELECT max(s.stamped_at), ARRAY({OPEN_TRANSACTIONS}), true
      FROM pending_file_deletion p
      JOIN file_deletion_stamp s ON s.id = p.stamp_id
     WHERE p.id = ANY (%(ids)s::bigint[])
    RETURNING id
)
UPDATE pending_file_deletion p SET stamp_id = stamp.id FROM stamp WHERE p.id = ANY (%(ids)s::bigint[])
"""  # noqa: S608 -- only constants
_IS_ANY_OPEN = f"SELECT EXISTS ({OPEN_TRANSACTIONS})"

# Entries that wait for a retry, exhausted ones included, always have retry_at set: between them the two
# indexes know every stamp that is in use.
_DROP_UNUSED_STAMPS = """
DELETE FROM file_deletion_stamp s
 WHERE NOT EXISTS (SELECT FROM pending_file_deletion p
                    WHERE p.stamp_id = s.id AND p.retry_at IS NULL AND p.exhausted_at IS NULL)
   AND NOT EXISTS (SELECT FROM pending_file_deletion p WHERE p.stamp_id = s.id AND p.retry_at IS NOT NULL)
"""

# What stands in a fence has been open since its stamp at least; not where it is a fence of later under an old stamp.
# Both are such bounds. A plain role sees no xact_start of another's.
_HOLDERS = """
WITH waiting AS (
    SELECT CASE WHEN NOT s.checked THEN s.stamped_at END AS since, unnest(s.fence) AS vxid
      FROM file_deletion_stamp s
     WHERE s.stamped_at <= clock_timestamp() - %(grace)s
)
SELECT a.pid, a.usename::text, a.application_name,
       greatest(clock_timestamp() - min(w.since), clock_timestamp() - min(a.xact_start), interval '0'),
       l.virtualtransaction
  FROM waiting w
  JOIN pg_locks l ON l.locktype = 'virtualxid' AND l.virtualtransaction = w.vxid
                 AND l.pid IS DISTINCT FROM pg_backend_pid()
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 GROUP BY a.pid, a.usename, a.application_name, l.virtualtransaction
 ORDER BY 4 DESC
 LIMIT %(limit)s
"""

_PREPARED = (
    "SELECT gid, owner::text, prepared FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared"
)


LOCK_SECONDS = 10.0

# What every transaction of a drain sets for itself, whatever the role's defaults. Generous, but not
# endless: a session that hangs keeps other drains' fences up and holds vacuum back.
DRAIN_PARAMETERS = {
    "synchronous_commit": "on",
    "statement_timeout": "1h",
    "lock_timeout": f"{LOCK_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": "10min",
    # What a receiver lets go is for the next drain: one that runs because of it would run inside this one.
    "pgcleanup.notify": "off",
}


_timeouts: ContextVar[Mapping[str, str]] = ContextVar("pgcleanup_timeouts", default=MappingProxyType({}))


@contextmanager
def timeouts(**parameters: str) -> Iterator[None]:
    """Let the transactions of drains within the block have these timeouts, where somebody waits for the drain."""
    token = _timeouts.set(parameters)
    try:
        yield
    finally:
        _timeouts.reset(token)


@contextmanager
def impatient() -> Iterator[None]:
    """Wait within the block only for a moment for a table that somebody has locked."""
    with timeouts(**{"lock_timeout": "500ms", **_timeouts.get()}):
        yield


def lock_patience() -> float:
    """Return for how many seconds a drain waits for a table that somebody has locked."""
    return 0.0 if _timeouts.get() else LOCK_SECONDS


def drain_parameters(**changes: str) -> dict[str, str]:
    """Return what a transaction of a drain sets for itself, with the timeouts that hold now."""
    return {**DRAIN_PARAMETERS, **changes, **_timeouts.get()}


@contextmanager
def drain_transaction(using: str, **changes: str) -> Iterator[None]:
    """Run the block in one transaction of a drain: READ COMMITTED, durable, with timeouts of its own."""
    parameters = drain_parameters(**changes)
    connections[using].ensure_connection()
    if connections[using].connection.info.server_version < 170000:
        with sql.short_transaction(using, **parameters):
            yield
        return
    # The role's own timer runs since BEGIN. PostgreSQL stops it for a 0, but does not set it anew for another value.
    with sql.short_transaction(using, **{**parameters, "transaction_timeout": "0"}):
        sql.set_local(using, transaction_timeout=parameters.get("transaction_timeout", "2h"))
        yield


def fence_parameters() -> dict[str, Any]:
    """Return what the SQL about open transactions takes."""
    return {"unfenced_roles": list(settings.unfenced_roles)}


def stamp(using: str) -> int:
    """Stamp up to STAMP_SIZE entries that are committed and not stamped yet, in a transaction of its own.

    Durable on return: `synchronous_commit` also flushes the commits that let the names go, so no crash of
    the server can bring such a row back after its file went.

    Returns:
        How many entries were stamped; fewer than STAMP_SIZE means that none is left.
    """
    with drain_transaction(using):
        return sql.execute(using, _STAMP, {"limit": STAMP_SIZE, **fence_parameters()})


def stamp_transaction(using: str, transaction_id: int, limit: int) -> list[tuple[Any, ...]]:
    """Stamp up to `limit` entries of one committed transaction, as `stamp` does all.

    Returns:
        Source, name and stamp of each.
    """
    values = {"transaction_id": transaction_id, "limit": limit, "newest": STAMP_SIZE, **fence_parameters()}
    with drain_transaction(using):
        return sql.fetch(using, _STAMP_TRANSACTION, values)


def is_any_transaction_open(using: str) -> bool:
    """Whether a transaction is open in this database, besides this session's own."""
    found: bool = sql.fetch(using, _IS_ANY_OPEN, fence_parameters())[0][0]
    return found


def stamp_anew(using: str, ids: Sequence[int]) -> None:
    """Let claimed entries wait for the transactions that are open now. Inside the claim's transaction."""
    sql.execute(using, _STAMP_ANEW, {"ids": sql.integer_array(ids), **fence_parameters()})


def drop_unused_stamps(using: str) -> None:
    """Delete the stamps that no entry has any more, in a transaction of its own."""
    with drain_transaction(using):
        sql.execute(using, _DROP_UNUSED_STAMPS)


def drop_stamp(using: str, stamp_id: int) -> None:
    """Delete one stamp if no entry has it any more. Not durably: what a crash brings back, the next drain drops."""
    with drain_transaction(using, synchronous_commit="off"):
        sql.execute(using, f"{_DROP_UNUSED_STAMPS} AND s.id = %s", [stamp_id])


def prepared_transactions(using: str) -> list[tuple[Any, ...]]:
    """Return id, owner and time of the prepared transactions of this database, oldest first.

    Their virtual transaction id ends with PREPARE and their writes are invisible: nothing may be deleted
    while there is one.
    """
    return sql.fetch(using, _PREPARED)


def prepared_names(using: str) -> list[str]:
    """Return these transactions as people know them, with their owner."""
    return [f"{gid} of {owner}" for gid, owner, _ in prepared_transactions(using)]


def holders(using: str, grace: Any, limit: int = 5) -> Sequence[tuple[Any, ...]]:
    """Return the transactions that hold entries back beyond their grace period, longest first.

    Rows of pid, user, application name, "open for at least", virtual transaction id. A plain role cannot
    see when another session's transaction began: it counts from the oldest stamp that it stands in, and is 0
    where that is of before, as in a storage with columns that no trigger records.
    """
    return sql.fetch(using, _HOLDERS, {"grace": grace, "limit": limit})
