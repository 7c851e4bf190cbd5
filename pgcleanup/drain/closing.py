"""The end of a run: what is left and why, and the chores that keep the tables small."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from django.db import DatabaseError

from pgcleanup import references
from pgcleanup.columns import ignored_sources
from pgcleanup.conf import settings
from pgcleanup.drain.context import Context
from pgcleanup.drain.report import DrainReport, ErrorGroup, Holder
from pgcleanup.ledger import fence, gauges, history, state
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.triggers import Inspection

T = TypeVar("T")
_PRUNE_ROUNDS = 10
# Of a long ledger, so many of its oldest entries are looked at for sources that no model has any more: they stay, and
# so are among them soon.
_OLDEST = 10_000


def in_transaction(using: str, work: Callable[[], T]) -> T:
    """Do the work in a short transaction of its own, and return what it returns."""
    with drain_transaction(using):
        return work()


def prune_history(using: str) -> None:
    """Delete history beyond PGCLEANUP_HISTORY_RETENTION, a bounded number of rows in one drain."""
    retention = settings.history_retention
    if retention is None:
        return
    after = history.START
    for _ in range(_PRUNE_ROUNDS):
        prune = partial(history.prune, using, retention, after=after)
        pruned, after = in_transaction(using, prune)
        if not pruned:
            return


def close_storage(context: Context, key: str | None, error: Exception) -> None:
    """Leave a storage alone for the rest of the run, because its names could not be checked."""
    text = str(error).splitlines()[0]
    if isinstance(error, DatabaseError):
        columns = context.columns.naming(key) if key else context.columns
        text += references.grant_against(context.using, columns, error)
    for closed in [key] if key else list(context.stores):
        store = context.stores[closed]
        store.down = f"the names of storage {store.label} could not be checked: {text}"
        context.tally.problem(store.down)


def report(context: Context, inspection: Inspection, *, dry_run: bool) -> DrainReport:
    """Put together what the run did and what the ledger holds now."""
    # With the timeouts of a drain: those of its role may be meant for requests.
    with drain_transaction(context.using):
        return _report(context, inspection, dry_run=dry_run)


def _report(context: Context, inspection: Inspection, *, dry_run: bool) -> DrainReport:
    using, grace, tally = context.using, context.grace, context.tally
    resolvable = {*context.columns.by_source, *ignored_sources()}
    is_large = state.is_large(using)
    pending = state.sources(using, looked_at=_OLDEST if is_large else None)
    unresolved = [source for source in pending if source not in resolvable]
    waiting = gauges.look(using, grace).waiting if is_large else state.waiting(using, grace, context.columns)
    if unresolved and waiting.get("due") and not is_large:
        rows = state.waiting_by_source(using, grace)
        waiting["unresolved"] = sum(count for source, reason, count in rows if source in unresolved and reason == "due")
        waiting["due"] -= waiting["unresolved"]
    scanning = min(sum(context.waiting_for_scan.values()), waiting.get("due", 0))
    if scanning:
        waiting["due"] -= scanning
        waiting["scan"] = scanning
    deletes = not dry_run and settings.delete_files
    # A drain writes down which files are too young. One that deletes nothing has only seen them, and what no drain
    # has seen before counts as in its grace period, though that be zero.
    young = 0 if deletes else tally.young
    for reason in ("due", "grace_period"):
        moved = min(young, waiting.get(reason, 0))
        young -= moved
        waiting[reason] = waiting.get(reason, 0) - moved
        waiting["upload_window"] = waiting.get("upload_window", 0) + moved
    columns, tables = inspection.plan.recorded
    return DrainReport(
        counts=dict(tally.counts),
        waiting={reason: count for reason, count in waiting.items() if count},
        waiting_complete=not is_large,
        bytes_deleted=tally.bytes_deleted,
        seconds=tally.seconds,
        grace_period=grace,
        dry_run=dry_run,
        stopped=context.stopped,
        deletes=deletes,
        oldest_pending=state.oldest_age(using, grace),
        next_due=state.next_due(using, grace) if waiting.get("grace_period") else None,
        first_names=tuple(state.names_in_grace(using, grace, limit=5)),
        holders=tuple(_holders(using, grace)),
        prepared=tuple(context.prepared),
        errors=tuple(ErrorGroup(*row) for row in state.errors(using)),
        problems=tuple(tally.problems),
        refused=tuple(tally.refused.values()),
        uncovered=tuple(inspection.problems()),
        unresolved=tuple(unresolved),
        scans=tuple(tally.scans),
        columns=columns,
        tables=tables,
        first_drain=context.is_first,
    )


def _holders(using: str, grace: timedelta) -> list[Holder]:
    return [
        Holder(pid, user, application, at_least) for pid, user, application, at_least, _ in fence.holders(using, grace)
    ]
