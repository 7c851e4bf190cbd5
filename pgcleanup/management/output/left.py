"""What is left after a drain, until when, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pgcleanup.drain import DrainReport
from pgcleanup.management.output.base import Line
from pgcleanup.management.output.waiting import waiting_phrase
from pgcleanup.status.words import ahead, duration, listed, moment, number, plural, shown
from pgcleanup.triggers import installing

_TABLES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Found:
    """What the report does not tell, and the database was asked for."""

    too_young: Sequence[tuple[str, datetime]] = ()
    """A few names whose files are within PGCLEANUP_UPLOAD_WINDOW, and when they are tried again."""
    enable: Sequence[str] = ()
    """The statements that enable the triggers that somebody disabled."""


def due_lines(names: Sequence[tuple[str, datetime]], total: int) -> Iterator[Line]:
    """Say when a few of `total` names are due."""
    times: dict[str, list[str]] = {}
    for name, due in names:
        times.setdefault(ahead(due), []).append(shown(name, 40))
    rest = total - len(names)
    rows = [(", ".join(names_then), f"due {when}") for when, names_then in times.items()]
    if rest > 0 and rows:
        rows[-1] = (f"{rows[-1][0]} and {number(rest)} more", rows[-1][1])
    width = max((len(text) for text, _ in rows), default=0)
    for text, when in rows:
        yield Line(f"  {text:<{width}}   {when}")


def left_sentence(report: DrainReport, *, late: bool) -> str:
    """Return how many files are left and why, and how old the oldest is where that is not as it should be."""
    at_least = "" if report.waiting_complete else "at least "
    text = f"Left: {at_least}{waiting_phrase(report.waiting)}"
    # What has failed for good keeps its stamp, which is of no use to it any more.
    if report.next_due is not None and report.waiting.get("grace_period"):
        text += f", next due {moment(report.next_due)}"
    if report.oldest_pending is not None and not late:
        on_time = not set(report.waiting) - {"grace_period", "upload_window", "other_entry"}
        text += ". On time" if on_time else f". Oldest pending: {duration(report.oldest_pending)} past its grace period"
    return f"{text}."


def trouble_lines(report: DrainReport, enable: Sequence[str], command: Callable[[str], str]) -> Iterator[Line]:
    """Name the tables that are not watched, the fields that are gone, and the checks that are slow."""
    yield from _uncovered(report.uncovered, enable, command)
    if report.unresolved:
        yield Line(
            f"Left alone: files whose field no installed model has any more: {listed(report.unresolved)}. "
            "Their names stay in the ledger until it is back."
        )
    yield from (Line(f"Slow check: {advice}") for advice in report.scans)


def _uncovered(uncovered: Sequence[str], enable: Sequence[str], command: Callable[[str], str]) -> Iterator[Line]:
    if not uncovered:
        return
    one = len(uncovered) == 1
    tables = f"{plural(len(uncovered), 'table')} {'is not watched as it' if one else 'are not watched as they'}"
    yield Line(f"{tables} should be, so files there may NOT be recorded:", problem=True)
    yield from (Line(f"  {line}", problem=True) for line in uncovered[:_TABLES_SHOWN])
    if (rest := len(uncovered) - _TABLES_SHOWN) > 0:
        yield Line(f"  and {number(rest)} more", problem=True)
    # A sync leaves to people what people disabled.
    if not enable or not all(line.endswith("trigger disabled") for line in uncovered):
        yield Line(f"  Run: {', then: '.join(map(command, installing()))}", problem=True)
    yield from (Line(f"  To enable it again: {statement}", problem=True) for statement in enable[:_TABLES_SHOWN])
