"""The history: reading it in pages, and pruning it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

from pgcleanup import sql

START = "(0,0)"
"""Where a table begins."""

# From where the last batch ended: what is deleted already stays in the table until a vacuum, and would be
# read again for each batch.
_PRUNE = """
WITH gone AS (
    DELETE FROM settled_file_deletion
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM settled_file_deletion
                              WHERE settled_at < clock_timestamp() - %(retention)s AND ctid > %(after)s::tid
                              LIMIT %(limit)s))
    RETURNING ctid
)
SELECT count(*), max(ctid)::text FROM gone
"""
_COUNT_OLD = "SELECT count(*) FROM settled_file_deletion WHERE settled_at < clock_timestamp() - %(retention)s"

_RECORDED = """id, source, name, object_pk, operation, transaction_id, db_user, application_name, context, keep,
       recorded_at, attempts, last_error, cancelled_at"""
# The fields of an Event.
SETTLED = f"{_RECORDED}, outcome, reason, bytes, settled_at, drained_by"
PENDING = f"{_RECORDED}, CASE WHEN exhausted_at IS NOT NULL THEN 'failed' ELSE 'pending' END, '', NULL, NULL, ''"

# A range of ids at a time: few of the entries may be asked for, and one statement over a history of a hundred
# million rows would hold deletions back as long as it runs, like any open transaction.
_SETTLED = f"""
SELECT {SETTLED}
  FROM settled_file_deletion
 WHERE id > %(after)s AND id <= %(until)s AND {{condition}}
 ORDER BY id
"""  # noqa: S608 -- only constants
_PENDING = f"""
SELECT {PENDING}
  FROM pending_file_deletion
 WHERE id > %(after)s AND id <= %(until)s AND {{condition}}
 ORDER BY id
"""  # noqa: S608
_BOUNDS = "SELECT coalesce(min(id), 0) - 1, coalesce(max(id), 0) FROM {table}"
# The history is in the order of its settlement, and a block range index knows where a time begins.
_BOUNDS_SINCE = (
    "SELECT coalesce(min(id), 0) - 1, coalesce(max(id), 0) FROM settled_file_deletion WHERE settled_at >= %(since)s"
)
_RANGE = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """A name that a row let go, and what has become of it so far."""

    id: int
    source: str
    name: str
    object_pk: str | None
    operation: str
    transaction_id: int
    db_user: str
    application_name: str
    context: str | None
    keep: bool
    recorded_at: datetime
    attempts: int
    last_error: str
    cancelled_at: datetime | None
    outcome: str
    """As in the history; "pending" or "failed" where it is still in the ledger."""
    reason: str
    bytes: int | None
    settled_at: datetime | None
    drained_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which events are asked for; what is not given does not restrict."""

    names: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    objects: tuple[tuple[str, str], ...] | None = None
    """Label of a model, in lower case, and primary key as recorded; one of them."""
    since: datetime | None = None
    """Settled then or later; what is pending counts, too."""
    before: datetime | None = None
    """Settled before then. What is pending does not count."""


def context_value(text: str | None, *, strict: bool = False) -> Any:
    """Return a context as the value that it was, or as text where somebody wrote it in another form.

    Python writes and reads NaN and Infinity, which JSON has not: with `strict` they are another form.
    """
    if text is None:
        return None
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite) if strict else json.loads(text)
    except ValueError:
        return text


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def prune(using: str, retention: timedelta, limit: int = 10_000, after: str = START) -> tuple[int, str]:
    """Delete up to `limit` settled entries older than `retention`. Inside a transaction.

    Returns:
        How many, and where to go on.
    """
    # Without it the history's own trigger refuses: migrations_templates/append_only.v1.sql.
    sql.set_local(using, **{"pgcleanup.prune_older_than": f"{retention.total_seconds()} seconds"})
    pruned, last = sql.fetch(using, _PRUNE, {"retention": retention, "limit": limit, "after": after})[0]
    sql.set_local(using, **{"pgcleanup.prune_older_than": ""})
    return pruned, last or after


def count_older(using: str, retention: timedelta) -> int:
    """Return how many settled entries are older than `retention`."""
    count: int = sql.fetch(using, _COUNT_OLD, {"retention": retention})[0][0]
    return count


def events(using: str, asked: Asked) -> Iterator[Event]:
    """Yield what is asked for: what is pending, then what was settled, the oldest entry first.

    In short statements of their own, so that nothing waits for whoever reads them slowly. Each entry comes
    once, also where a drain settles it meanwhile: as pending.
    """
    seen: set[int] = set()
    if asked.before is None:
        condition, values = _condition(asked, settled=False)
        bounds = _BOUNDS.format(table="pending_file_deletion")
        for event in _ranges(using, _PENDING.format(condition=condition), bounds, values):
            seen.add(event.id)
            yield event
    condition, values = _condition(asked, settled=True)
    bounds = _BOUNDS_SINCE if asked.since is not None else _BOUNDS.format(table="settled_file_deletion")
    settled = _ranges(using, _SETTLED.format(condition=condition), bounds, values)
    yield from (event for event in settled if event.id not in seen)


def _ranges(using: str, statement: str, bounds: str, values: dict[str, Any]) -> Iterator[Event]:
    after, last = sql.fetch(using, bounds, values)[0]
    while after < last:
        until = min(after + _RANGE, last)
        yield from (Event(*row) for row in sql.fetch(using, statement, {**values, "after": after, "until": until}))
        after = until


def _condition(asked: Asked, *, settled: bool) -> tuple[str, dict[str, Any]]:
    parts, values = ["true"], dict[str, Any]()
    if asked.names is not None:
        parts.append("name = ANY (%(names)s)")
        values["names"] = list(asked.names)
    if asked.sources is not None:
        parts.append("source = ANY (%(sources)s)")
        values["sources"] = list(asked.sources)
    if asked.objects is not None:
        # Of the source only the model: its fields may have other names by now, or be gone.
        parts.append(
            "(left(source, -position('.' in reverse(source))), object_pk)"
            " IN (SELECT * FROM unnest(%(models)s::text[], %(keys)s::text[]))"
        )
        values["models"] = [model for model, _ in asked.objects]
        values["keys"] = [key for _, key in asked.objects]
    if settled and asked.since is not None:
        parts.append("settled_at >= %(since)s")
        values["since"] = asked.since
    if settled and asked.before is not None:
        parts.append("settled_at < %(before)s")
        values["before"] = asked.before
    return " AND ".join(parts), values
