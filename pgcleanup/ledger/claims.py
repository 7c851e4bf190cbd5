"""Which names are due, and taking all that may be taken of them for this drain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pgcleanup import sql
from pgcleanup.ledger.fence import OPEN_TRANSACTIONS, fence_parameters

# The stamps whose entries may be claimed: old enough, and nobody in their fence is still open.
_READY_STAMPS = f"""
open_transactions AS MATERIALIZED (
    SELECT ARRAY({OPEN_TRANSACTIONS}) AS vxids
), ready AS MATERIALIZED (
    SELECT s.id, s.stamped_at, s.checked
      FROM file_deletion_stamp s, open_transactions o
     WHERE s.stamped_at <= clock_timestamp() - %(grace)s AND NOT s.fence && o.vxids
     ORDER BY s.id
)
"""  # noqa: S608 -- only constants

# One look-up in the index for each ready stamp: a million entries that wait behind a fence cost nothing.
# The LATERAL walks the stamps in the order of `ready`; the LIMIT around it stops it early. The names come as one array
# for each source, and not in a row each: to make rows of them and take those apart took longer than to find them.
_PICK = f"""
WITH {_READY_STAMPS}, picked AS MATERIALIZED (
    SELECT p.stamp_id, p.id, p.source, p.name
      FROM ready
     CROSS JOIN LATERAL (
        SELECT p.stamp_id, p.id, p.source, p.name
          FROM pending_file_deletion p
         WHERE p.stamp_id = ready.id AND p.retry_at IS NULL AND p.exhausted_at IS NULL
           AND (p.stamp_id, p.id) > (%(after_stamp)s, %(after_id)s)
           AND p.source = ANY (%(sources)s)
         ORDER BY p.stamp_id, p.id
         LIMIT %(limit)s) p
     WHERE ready.id >= %(after_stamp)s
     LIMIT %(limit)s
)
SELECT source, array_agg(name), max(stamp_id), max(id) FILTER (WHERE stamp_id = (SELECT max(stamp_id) FROM picked))
  FROM picked
 GROUP BY source
"""  # noqa: S608

_PICK_RETRIES = f"""
WITH {_READY_STAMPS}, picked AS MATERIALIZED (
    SELECT p.retry_at, p.id, p.source, p.name
      FROM pending_file_deletion p
      JOIN ready ON ready.id = p.stamp_id
     WHERE p.retry_at <= %(until)s AND p.exhausted_at IS NULL
       AND (p.retry_at, p.id) > (%(after_time)s, %(after_id)s)
       AND p.source = ANY (%(sources)s)
     ORDER BY p.retry_at, p.id
     LIMIT %(limit)s
)
SELECT source, array_agg(name), max(retry_at), max(id) FILTER (WHERE retry_at = (SELECT max(retry_at) FROM picked))
  FROM picked
 GROUP BY source
"""  # noqa: S608

# How many names are due, counted no further than it matters, and for how long the oldest has been.
_DUE = f"""
WITH {_READY_STAMPS}
SELECT count(DISTINCT d.name), coalesce(max(clock_timestamp() - d.stamped_at - %(grace)s), interval '0')
  FROM (SELECT p.name, ready.stamped_at
          FROM ready
          JOIN pending_file_deletion p ON p.stamp_id = ready.id
         WHERE (p.retry_at IS NULL OR p.retry_at <= clock_timestamp()) AND p.exhausted_at IS NULL
           AND p.source = ANY (%(sources)s)
         LIMIT %(limit)s) d
"""  # noqa: S608

# Whole names: also the entries that wait for a retry or have none left, but nothing that is not stamped,
# past grace and clear. SKIP LOCKED: what another drain has is that drain's. The hash alone is what the
# index has; the name itself tells two names of one hash apart. LATERAL with FOR UPDATE inside: one look-up
# in the index for each name. As a join, the planner hashes all stamped entries for every batch while the
# table's statistics are from before the stamp, when there were none. IS TRUE makes one hash table of the ready
# stamps for all names; as a plain IN they are joined anew for each.
#
# No times, which psycopg takes long to read, and of what only receivers want to know nothing unless there are any.
_CLAIM = f"""
WITH {_READY_STAMPS}
SELECT p.*
  FROM unnest(%(names)s::text[]) AS w(name)
 CROSS JOIN LATERAL (
    SELECT p.name, p.id, p.source, p.keep, p.cancelled_at IS NOT NULL, p.attempts,
           p.exhausted_at IS NULL AND (p.retry_at IS NULL OR p.retry_at <= clock_timestamp()),
           extract(epoch FROM clock_timestamp() - p.recorded_at)::float8,
           (p.stamp_id IN (SELECT id FROM ready WHERE checked)) IS TRUE{{newest}}
      FROM pending_file_deletion p
     WHERE hashtextextended(p.name, 0) = hashtextextended(w.name, 0) AND p.name = w.name
       AND p.stamp_id IS NOT NULL AND (p.stamp_id IN (SELECT id FROM ready)) IS TRUE
       AND p.source = ANY (%(sources)s)
       FOR UPDATE OF p SKIP LOCKED) p
"""  # noqa: S608
_NEWEST = ", p.object_pk, p.operation, p.context"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a run has picked: a run looks at each entry once."""

    stamp_id: int = 0
    id: int = 0
    retry_at: datetime | None = None
    """None while the entries without a retry are picked, which come first."""
    retries_until: datetime | None = None


class Newest(NamedTuple):
    """What receivers are told of the newest entry of a name."""

    object_pk: str | None
    operation: str
    context: str | None


class Claim(NamedTuple):
    """All entries of one name in one storage that this drain holds, until its transaction ends."""

    storage_key: str
    name: str
    ids: tuple[int, ...]
    keep: bool
    cancelled: bool
    attempts: int
    sources: tuple[str, ...]
    """All different ones."""
    source: str
    """Of the newest entry."""
    newest: Newest | None = None
    """None where nobody asked."""
    pending_seconds: float = 0.0
    """How long ago the oldest entry was recorded, by the database's time of the claim."""
    checked: bool = False
    """Whether no row named it when the transactions were noted that it has waited for."""


def pick(
    using: str, cursor: Cursor, grace: timedelta, sources: Sequence[str], limit: int
) -> tuple[dict[str, list[str]], Cursor]:
    """Return the names of up to `limit` due entries after the cursor, by source, and the cursor after them.

    Takes no lock. An empty dictionary means that this stream is at its end.
    """
    parameters: dict[str, Any] = {"grace": grace, "sources": list(sources), "limit": limit, **fence_parameters()}
    if cursor.retry_at is None:
        # Of entries that were stamped since, the statistics know nothing. Then reading all of them by another index, to
        # sort them, seems to cost no more than the next few by the one that has them in order.
        with sql.short_transaction(using, enable_sort="off"):
            rows = sql.fetch(using, _PICK, {**parameters, "after_stamp": cursor.stamp_id, "after_id": cursor.id})
        if rows:
            stamp_id = max(row[2] for row in rows)
            cursor = Cursor(stamp_id, max(row[3] or 0 for row in rows), retries_until=cursor.retries_until)
    else:
        after = {"after_time": cursor.retry_at, "after_id": cursor.id, "until": cursor.retries_until}
        rows = sql.fetch(using, _PICK_RETRIES, {**parameters, **after})
        if rows:
            retry_at = max(row[2] for row in rows)
            cursor = Cursor(0, max(row[3] or 0 for row in rows), retry_at, cursor.retries_until)
    return {source: names for source, names, _, _ in rows}, cursor


def due(using: str, sources: Sequence[str], grace: timedelta, limit: int) -> tuple[int, timedelta]:
    """Return how many names of these sources are due, at most `limit`, and since when the oldest has been."""
    names, overdue = sql.fetch(
        using, _DUE, {"sources": list(sources), "grace": grace, "limit": limit, **fence_parameters()}
    )[0]
    return names, overdue


def claim(
    using: str,
    storage_key: str,
    names: Sequence[str],
    sources: Sequence[str],
    grace: timedelta,
    *,
    newest: bool = True,
) -> list[Claim]:
    """Lock every entry of these names in one storage, whose sources these are, that is stamped, past grace and clear.

    Args:
        using: the database alias.
        storage_key: the storage.
        names: the names.
        sources: of that storage.
        grace: the grace period.
        newest: find out what receivers are told.

    Returns:
        One claim for each name of which there was something to take, oldest entry first. A name that
        another drain holds is not among them.
    """
    values = {"names": sql.text_array(names), "sources": list(sources), "grace": grace, **fence_parameters()}
    rows = sql.fetch(using, _CLAIM.format(newest=_NEWEST if newest else ""), values)
    by_name: dict[str, list[Any]] = {}
    for row in rows:
        by_name.setdefault(row[0], []).append(row)
    found = [
        _one_entry(storage_key, *entries[0]) if len(entries) == 1 else _several_entries(storage_key, entries)
        for entries in by_name.values()
        # Another drain may have postponed the name since it was picked: it waits, like everybody's.
        if any(entry[6] for entry in entries)
    ]
    return sorted(found, key=lambda claim: claim.ids)


def _one_entry(
    storage_key: str,
    name: str,
    id_: int,
    source: str,
    keep: bool,
    cancelled: bool,
    attempts: int,
    due: bool,
    seconds: float,
    checked: bool,
    *newest: Any,
) -> Claim:
    of_newest = Newest(*newest) if newest else None
    return Claim(storage_key, name, (id_,), keep, cancelled, attempts, (source,), source, of_newest, seconds, checked)


def _several_entries(storage_key: str, entries: list[Any]) -> Claim:
    entries.sort(key=lambda entry: entry[1])
    claims = [_one_entry(storage_key, *entry) for entry in entries]
    return claims[-1]._replace(
        ids=tuple(claim.ids[0] for claim in claims),
        keep=any(claim.keep for claim in claims),
        cancelled=any(claim.cancelled for claim in claims),
        attempts=max(claim.attempts for claim in claims),
        sources=tuple(sorted({claim.source for claim in claims})),
        pending_seconds=max(claim.pending_seconds for claim in claims),
        checked=all(claim.checked for claim in claims),
    )
