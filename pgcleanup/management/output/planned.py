"""How `drain_deletions --dry-run -v 2` tells what a drain would read and call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgcleanup.conf import settings
from pgcleanup.drain.plan import ColumnPlan, StoragePlan
from pgcleanup.management.output.base import Line
from pgcleanup.status.words import number, period, size


def planned_lines(plans: Iterable[StoragePlan]) -> Iterator[Line]:
    """Say how each storage's names are checked, and its files deleted."""
    for plan in plans:
        calls = "one file a call" if plan.at_once == 1 else f"up to {number(plan.at_once)} files a call"
        yield Line(f"Plan for {plan.label}: batches of up to {number(plan.batch)} names, {calls}.")
        yield Line("  Each batch asks in one statement:")
        width = max((len(column.source) for column in plan.columns), default=0)
        for column in plan.columns:
            yield Line(f"    {column.source:<{width}}   {_asked(column)}")
            if column.create_index is not None:
                yield Line(f"    {'':<{width}}   An index helps: {column.create_index}")


def _asked(column: ColumnPlan) -> str:
    if column.bytes is None:
        return "by its index"
    if column.create_index is None:
        return f"reads the whole table, {size(column.bytes)}: small enough to need no index"
    return (
        f"reads the whole table, {size(column.bytes)}: no index, so names wait up to {period(settings.scan_interval)} "
        "for company"
    )
