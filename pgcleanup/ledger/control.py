"""What holds for every drain of a database: whether they are paused, and which database they know it as.

One row, kept in the database, so that it reaches every process and survives each of them. A pause is read
between two files; the identity before a drain starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgcleanup import sql
from pgcleanup.ledger.identity import Identity

# False where the migration of the table is still to be run.
_EXISTS = "SELECT to_regclass('file_deletion_control') IS NOT NULL"

_READ = """
SELECT paused_at, paused_by, pause_reason, system_identifier, database_oid, database_name, addresses, drained_at
  FROM file_deletion_control
 WHERE id = 1
"""

_PAUSE = """
INSERT INTO file_deletion_control AS c (id, paused_at, paused_by, pause_reason)
VALUES (1, clock_timestamp(), %(by)s, %(reason)s)
ON CONFLICT (id) DO UPDATE
   SET paused_at = clock_timestamp(), paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
"""
_RESUME = """
UPDATE file_deletion_control SET paused_at = NULL, paused_by = '', pause_reason = ''
 WHERE id = 1 AND paused_at IS NOT NULL
"""
_PAUSED = "SELECT paused_at, paused_by, pause_reason FROM file_deletion_control WHERE id = 1 AND paused_at IS NOT NULL"

# Of two first drains one comes first; the other finds the identity that is its own, too.
_REMEMBER = """
INSERT INTO file_deletion_control AS c
       (id, system_identifier, database_oid, database_name, addresses, drained_at, identified_at, identified_by)
VALUES (1, %(system_identifier)s, %(oid)s, %(name)s, %(addresses)s, CASE WHEN NOT %(anew)s THEN clock_timestamp() END,
        clock_timestamp(), %(by)s)
ON CONFLICT (id) DO UPDATE
   SET system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
       database_name = excluded.database_name, addresses = excluded.addresses,
       drained_at = coalesce(excluded.drained_at, c.drained_at),
       identified_at = excluded.identified_at, identified_by = excluded.identified_by
 WHERE %(anew)s OR c.database_oid IS NULL
"""

# Written once a minute at most, and never waited for: somebody else who writes it, writes the same.
_DRAINED = """
UPDATE file_deletion_control
   SET drained_at = clock_timestamp(),
       system_identifier = coalesce(system_identifier, %(system_identifier)s),
       addresses = ARRAY(SELECT DISTINCT unnest(addresses || %(addresses)s::text[]) ORDER BY 1)
 WHERE id = (SELECT id FROM file_deletion_control
              WHERE id = 1
                AND (drained_at IS NULL OR drained_at < clock_timestamp() - interval '1 minute'
                     OR system_identifier IS NULL OR NOT addresses @> %(addresses)s::text[])
                FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused the drains, when and why."""

    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Control:
    """The row."""

    pause: Pause | None = None
    identity: Identity | None = None
    """None before the first drain."""
    drained_at: datetime | None = None
    """When a drain started last, to the minute."""


def exists(using: str) -> bool:
    """Whether the table is there: code may be deployed before its `migrate`."""
    return bool(sql.fetch(using, _EXISTS)[0][0])


def read(using: str) -> Control:
    """Return what holds now. A database that was never drained nor paused has no row."""
    rows = sql.fetch(using, _READ)
    if not rows:
        return Control()
    at, by, reason, system_identifier, oid, name, addresses, drained_at = rows[0]
    identity = None
    if oid is not None:
        identity = Identity(system_identifier=system_identifier, oid=oid, name=name, addresses=tuple(addresses or ()))
    return Control(Pause(at, by, reason) if at is not None else None, identity, drained_at)


def paused(using: str) -> Pause | None:
    """Return the pause that holds now, if any: a look at one row."""
    rows = sql.fetch(using, _PAUSED)
    return Pause(*rows[0]) if rows else None


def pause(using: str, by: str, reason: str = "") -> None:
    """Stop every drain of this database, also those that are under way; in the place of an earlier pause."""
    _write(using, _PAUSE, {"by": by, "reason": reason})


def resume(using: str) -> bool:
    """Let drains go on. Returns whether they were paused."""
    return _write(using, _RESUME, {}) > 0


def remember(using: str, identity: Identity, by: str) -> None:
    """Write down which database this is, unless that is known already."""
    _write(using, _REMEMBER, {**_values(identity), "by": by, "anew": False})


def adopt(using: str, identity: Identity, by: str) -> None:
    """Take this identity for the database's own from now on, whatever was known."""
    _write(using, _REMEMBER, {**_values(identity), "by": by, "anew": True})


def drained(using: str, identity: Identity) -> None:
    """Note that a drain starts, and the addresses by which it knows the database besides the known one."""
    _write(using, _DRAINED, _values(identity))


def _write(using: str, statement: str, values: dict[str, Any]) -> int:
    # Durable whatever the project has set: a crash of the server must not end a pause.
    with sql.short_transaction(using, synchronous_commit="on", lock_timeout="5s"):
        return sql.execute(using, statement, values)


def _values(identity: Identity) -> dict[str, Any]:
    return {
        "system_identifier": identity.system_identifier,
        "oid": identity.oid,
        "name": identity.name,
        "addresses": list(identity.addresses),
    }
