"""Storages that failed as a whole a moment ago: called no more for a while, and after all others.

What is known of them is in the ledger, in the entries that were put off: every drain sees it, in whatever process.
"""

from __future__ import annotations

from collections import Counter
from datetime import timezone

from pgcleanup.drain.context import Context
from pgcleanup.drain.store import SUSPICIOUS_FAILURES
from pgcleanup.ledger import outages


def rest(context: Context) -> None:
    """Close the storages that rest, and let those that have rested come after the others.

    A storage may hang, and end the process that asks it: whatever comes after its names would never have its turn.
    """
    for source, until, reason in outages.put_off_sources(context.using):
        column = context.columns.by_source.get(source)
        key = column.storage_key if column is not None else None
        if key not in context.stores or context.is_closed(key):
            continue
        store = context.stores[key]
        if until is None:
            context.put_last.add(key)
        else:
            time = f"{until.astimezone(timezone.utc):%H:%M:%S} UTC"
            store.down = f"storage {store.label} failed a moment ago and is left alone until {time}: {reason}"
            context.tally.problem(store.down)
    _remember_failures(context)


def _remember_failures(context: Context) -> None:
    """Let failures of earlier drains count as in a row with those of this one, until something works.

    A drain that has one or two names each time would never find out that a storage fails as a whole, and its names
    would use up their attempts in an outage.
    """
    failing: Counter[str] = Counter()
    for source, names in outages.failing_names(context.using).items():
        column = context.columns.by_source.get(source)
        if column is not None and column.storage_key in context.stores:
            failing[column.storage_key] += names
    for key, names in failing.items():
        for call in ("look", "delete"):
            context.stores[key].in_a_row[call] = min(names, SUSPICIOUS_FAILURES - 1)
