"""What is left and why, as the drain and the status say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pgcleanup.drain.report import ErrorGroup, Holder
from pgcleanup.management.output.base import Line
from pgcleanup.status.words import duration, moment, number, plural, shown

REASONS = {
    "due": "due now",
    "transaction": "waiting for open transactions",
    "retrying": "retrying after an error",
    "failed": "failed for good",
    "grace_period": "in the grace period",
    "upload_window": "too young to delete (PGCLEANUP_UPLOAD_WINDOW)",
    "other_entry": "let go once more a moment ago",
    "scan": "waiting for company, to read a large table once for many",
    "unresolved": "of a field that no installed model has",
}


def waiting_phrase(waiting: Mapping[str, int]) -> str:
    """Return "38 files in the grace period, 3 retrying after an error", in a fixed order."""
    known = [(reason, waiting[reason]) for reason in REASONS if waiting.get(reason)]
    other = [(reason, count) for reason, count in waiting.items() if reason not in REASONS and count]
    phrases = [f"{number(count)} {reason_word(reason)}" for reason, count in [*known, *other]]
    if phrases:
        reason, count = [*known, *other][0]
        phrases[0] = f"{plural(count, 'file')} {reason_word(reason)}"
    return ", ".join(phrases)


def reason_word(reason: str) -> str:
    """Return the words for a reason of `DrainReport.waiting`."""
    return REASONS.get(reason, reason.replace("_", " "))


def held_lines(holders: Sequence[Holder], prepared: Sequence[str], files: int) -> Iterator[Line]:
    """Name the transactions that names wait for, and how to look at them."""
    for holder in holders:
        who = [f"pid {holder.pid}" if holder.pid else "a session that is not visible"]
        who += [f"user {holder.user}"] if holder.user else []
        who += [f'application "{holder.application}"'] if holder.application else []
        age = f"for at least {duration(holder.at_least)}" if holder.at_least else "since a moment that is not known"
        yield Line(f"  {', '.join(who)}, open {age}")
    for transaction in prepared:
        yield Line(
            f"  prepared transaction {transaction}: nothing is deleted before COMMIT PREPARED or ROLLBACK PREPARED"
        )
    pids = [str(holder.pid) for holder in holders if holder.pid]
    if pids:
        condition = f"pid = {pids[0]}" if len(pids) == 1 else f"pid IN ({', '.join(pids)})"
        after = "after it ends" if len(holders) == 1 else "after they end"
        they = "It goes" if files == 1 else "They go"
        yield Line(f"{they} on the first drain {after}. To look: SELECT * FROM pg_stat_activity WHERE {condition};")  # noqa: S608 -- for people


def error_lines(errors: Iterable[ErrorGroup], using: str) -> Iterator[Line]:
    """Say with which errors names wait for a retry or have failed."""
    groups = list(errors)
    for group in groups:
        files = (
            f"{plural(group.names, 'file')}, for example {shown(group.example)}"
            if group.names > 1
            else shown(group.example)
        )
        if group.failed:
            yield Line(f"Failed, a person is needed: {files}", problem=True)
        else:
            when = f", next at {moment(group.retry_at)}" if group.retry_at else ""
            yield Line(f"Retrying: {files}{when}", problem=True)
        yield Line(f"  {group.error}", problem=True)
    if any(group.failed for group in groups):
        database = "" if using == "default" else f" --database {using}"
        yield Line(f"Mend what the error says, then: manage.py pgcleanup retry --failed{database}", problem=True)
