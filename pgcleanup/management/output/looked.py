"""The state of a database as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from pgcleanup.conf import settings
from pgcleanup.drain.report import ErrorGroup, Holder
from pgcleanup.management.output.base import Line
from pgcleanup.management.output.waiting import REASONS, error_lines, held_lines, reason_word
from pgcleanup.models import Outcome
from pgcleanup.status import Status
from pgcleanup.status.words import ahead, moment, number, plural, size
from pgcleanup.triggers import installing


def status_lines(status: Status) -> list[Line]:
    """Return the text of a status: the answer first, then what waits, what is watched, what was done."""
    return list(_lines(status))


def _lines(status: Status) -> Iterator[Line]:
    # Where something is wrong about the age, a problem below says so with the same words.
    quiet = status.age is None or status.age.late or status.age.never_drained or status.age.failed
    age = "" if quiet else f", {status.age}"
    yield Line(
        f'File deletions in database "{status.database}": {status.health.value}{age}.',
        problem=status.health.exit_code != 0,
    )
    yield from (Line(f"  {sentence}", problem=True) for sentence in status.problems)
    if status.age is None:
        return
    if not settings.delete_files:
        yield Line("PGCLEANUP_DELETE_FILES is False: names are recorded and reported, and no file is deleted.")
    yield from _waiting(status)
    yield from error_lines((ErrorGroup(*row) for row in status.errors), status.database)
    yield from _watched(status)
    yield from _recent(status)


def _waiting(status: Status) -> Iterator[Line]:
    yield Line("")
    waiting = {reason: count for reason, count in status.waiting.items() if count}
    if not waiting:
        yield Line("Pending: nothing.")
        return
    at_least = "" if status.waiting_complete else "at least "
    yield Line(f"Pending: {at_least}{plural(sum(waiting.values()), 'file')}")
    order = [*REASONS, *(reason for reason in waiting if reason not in REASONS)]
    width = max(len(number(count)) for count in waiting.values())
    for reason in order:
        if count := waiting.get(reason, 0):
            note = _of_grace(status, count) if reason == "grace_period" else ""
            yield Line(f"  {number(count):>{width}} {reason_word(reason)}{note}")
    holders = [Holder(*row) for row in status.holders]
    if waiting.get("transaction") or status.prepared:
        prepared = [f"{gid} of {owner}" for gid, owner, _ in status.prepared]
        held = held_lines(holders, prepared, waiting.get("transaction", 0))
        yield from (Line(f"    {line.text.strip()}") for line in held)
    yield Line("By field:" if status.waiting_complete else "By field, as far as they were counted:")
    width = max(len(source) for source, _, _ in status.by_source)
    sources: dict[str, list[str]] = {}
    for source, reason, count in status.by_source:
        sources.setdefault(source, []).append(f"{number(count)} {reason_word(reason)}")
    yield from (Line(f"  {source:<{width}}  {', '.join(phrases)}") for source, phrases in sources.items())


def _of_grace(status: Status, count: int) -> str:
    began = f", which began with the first drain that saw {'it' if count == 1 else 'them'}"
    due = f", next due {ahead(status.next_due)}" if status.next_due else ""
    return (began if status.age is not None and status.age.oldest else "") + due


def _watched(status: Status) -> Iterator[Line]:
    coverage = status.coverage
    if coverage is None:
        return
    yield Line("")
    columns = f"{plural(coverage.columns, 'file column')} in {plural(coverage.tables, 'table')}"
    if coverage.uninstalled:
        yield Line(f"Watched: nothing, of {columns}.")
    elif coverage.triggers_in_place:
        verb = "is" if coverage.columns == 1 else "are"
        yield Line(f"Watched: {columns} {verb} recorded; all triggers are in place.")
    else:
        yield Line(f"Watched: not all of {columns}; NOT all triggers are in place, see above.")
    for table in coverage.stray:
        yield Line(f"  {table} has a trigger that nothing needs any more; manage.py {installing()[0]} drops it.")


def _recent(status: Status) -> Iterator[Line]:
    yield Line("")
    if not any(status.recent.values()):
        last = f" since {moment(status.last_settled)}" if status.last_settled else " yet"
        yield Line(
            f"Done: nothing{last}."
            if not status.last_settled
            else f"Done: nothing in the last 24 hours; before that{last}."
        )
        return
    yield Line(
        f"Done in the last 24 hours, the last at {moment(status.last_settled)}:" if status.last_settled else "Done:"
    )
    counts = [(outcome, status.recent[outcome.value]) for outcome in Outcome if status.recent.get(outcome.value)]
    width = max(len(number(count)) for _, count in counts)
    for outcome, count in counts:
        note = f"   {size(status.recent_bytes)}" if outcome is Outcome.DELETED else ""
        yield Line(f"  {number(count):>{width}} {outcome.label}{note}")
