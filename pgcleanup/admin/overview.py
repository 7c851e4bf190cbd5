"""The overview: is it healthy, how far behind, what is stuck and on what, what to type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.db import DatabaseError, connections
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext as _

from pgcleanup.admin.charts import Chart, bars
from pgcleanup.admin.lists import COUNTED, LEFT, STATES, day_of, midnight, range_query
from pgcleanup.conf import settings
from pgcleanup.ledger import bounded, control, fence, state
from pgcleanup.models import PendingFileDeletion
from pgcleanup.status import Age, age, coverage_of, find_problems
from pgcleanup.status.problems import Kind, Problem
from pgcleanup.status.words import duration, in_utc, number, period, plural, size
from pgcleanup.triggers import inspect

SECONDS = 3.0
"""No statement of the overview runs longer; what would is left out, and that is said."""
DAYS = 30
_ORDER = tuple(STATES)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """Entries of one state, or of one field."""

    label: str
    entries: str
    url: str
    tone: str = ""


@dataclass(slots=True)
class Overview:
    """What the page shows."""

    database: str
    tone: str = "good"
    number: str = ""
    """The one number."""
    words: str = ""
    state: str = ""
    readable: bool = True
    """Whether more than the problems is known. What is not known must not look like what is not there."""
    problems: Sequence[Problem] = ()
    states: Sequence[Row] = ()
    sources: Sequence[Row] = ()
    holders: Sequence[tuple[int | None, str, str, str]] = ()
    prepared: Sequence[tuple[str, str, datetime]] = ()
    errors: Sequence[tuple[str, str, str, datetime | None, bool]] = ()
    charts: Sequence[Chart] = ()
    drains: Sequence[tuple[bounded.Drained, str, str]] = ()
    drained_at: datetime | None = None
    drained_ago: str = ""
    watched: str = ""
    unread: list[str] = field(default_factory=list)
    """What took too long to read."""
    days: int = DAYS
    history: bool = True
    """Whether what was settled is shown, too."""


def overview_of(request: HttpRequest, using: str, *, history: bool = True) -> Overview | None:
    """Look at a database for the overview, at its history where asked; None where it is none of PostgreSQL's."""
    if connections[using].vendor != "postgresql":
        return None
    found = Overview(using)
    found.problems = find_problems(using)
    if any(problem.kind in (Kind.UNREADABLE, Kind.NO_LEDGER) for problem in found.problems):
        found.tone, found.state, found.words = "bad", _("broken"), _("The ledger cannot be read.")
        found.readable = False
        return found
    reader = _Reader(using, found)
    current = reader.read(_("how far behind it is"), lambda: age(using))
    if current is not None:
        _headline(found, current)
    _pending(reader, request)
    if history:
        _history(reader, request, current)
    found.history = history
    return found


class _Reader:
    """Reads within a bound of time, and notes what could not be read."""

    def __init__(self, using: str, found: Overview) -> None:
        self.using = using
        self.found = found

    def read(self, what: str, look: Callable[[], T]) -> T | None:
        try:
            with bounded.at_most(self.using, SECONDS):
                return look()
        except DatabaseError:
            self.found.unread.append(what)
            return None


def _headline(found: Overview, current: Age) -> None:
    broken = [problem for problem in found.problems if problem.broken]
    late = current.late or current.never_drained
    found.tone = "bad" if broken else "warning" if found.problems or late else "good"
    if any(problem.kind is Kind.PAUSED for problem in found.problems):
        found.state = _("paused")
    else:
        found.state = _("broken") if broken else _("behind") if late else _("on time")
        if found.problems and found.state == _("on time"):
            found.state = _("needs attention")
    found.number = duration(current.oldest or timedelta(0))
    if current.oldest is None:
        found.words = _("behind: nothing is pending")
        return
    limit = _("the limit is %(limit)s (PGCLEANUP_MAX_AGE)") % {"limit": period(settings.max_age)}
    found.words = _("is the oldest pending file past its grace period; %(limit)s") % {"limit": limit}
    if not current.oldest:
        found.words = _("behind: all that is pending is in its grace period of %(grace)s") % {
            "grace": period(settings.grace_period)
        }
    if not settings.delete_files:
        found.words += _(". Nothing is deleted: PGCLEANUP_DELETE_FILES is False")


def _pending(reader: _Reader, request: HttpRequest) -> None:
    using, found = reader.using, reader.found
    grace = settings.grace_period
    list_url = _list(request, "pendingfiledeletion")
    counts = reader.read(_("what is pending"), lambda: bounded.counts(using, grace, COUNTED)) or []
    found.states = [
        Row(
            capfirst(str(STATES.get(key, key.replace("_", " ")))),
            _sum([count for count in counts if count.state == key]),
            f"{list_url}?{urlencode({'state': key if key in _ORDER[:6] else LEFT})}",
            "bad" if key == "failed" else "warning" if key in ("transaction", "retrying") else "",
        )
        for key in sorted({count.state for count in counts}, key=_rank)
    ]
    found.sources = [
        Row(source, _sum([c for c in counts if c.source == source]), f"{list_url}?{urlencode({'source': source})}")
        for source in sorted({count.source for count in counts})
    ]
    held = reader.read(_("which transactions it waits for"), lambda: fence.holders(using, grace)) or []
    found.holders = [
        (pid, user or _("not visible to this role"), application or "-", duration(since) if since else "-")
        for pid, user, application, since, *_rest in held
    ]
    prepared = reader.read(_("prepared transactions"), lambda: fence.prepared_transactions(using)) or []
    found.prepared = [(gid, owner, since) for gid, owner, since in prepared]
    if any(count.state in ("failed", "retrying") for count in counts):
        errors = reader.read(_("the errors"), lambda: state.errors(using)) or []
        found.errors = [
            (error, plural(names, "file"), example, retry_at, given_up)
            for error, names, example, retry_at, given_up in errors
        ]
    inspection = reader.read(_("the triggers"), lambda: inspect(using))
    if inspection is not None:
        coverage = coverage_of(inspection)
        if coverage.triggers_in_place:
            fields, tables = plural(coverage.columns, "file field"), plural(coverage.tables, "table")
            found.watched = _("All triggers are in place: %(fields)s in %(tables)s.") % {
                "fields": fields,
                "tables": tables,
            }
    known = reader.read(_("the last drain"), lambda: control.read(using) if control.exists(using) else None)
    if known is not None and known.drained_at is not None:
        found.drained_at = known.drained_at
        found.drained_ago = duration(_now() - known.drained_at)


def _history(reader: _Reader, request: HttpRequest, current: Age | None) -> None:
    using, found = reader.using, reader.found
    today = day_of(_now())
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    zone = get_current_timezone_name()
    settled = reader.read(
        _("what was deleted on each day"), lambda: bounded.settled_by_day(using, midnight(days[0]), zone)
    )
    recently = _now() - timedelta(hours=24)
    drains = reader.read(_("the last drains"), lambda: bounded.last_drains(using, recently)) or []
    found.drains = [(drain, number(drain.settled), _deleted(drain)) for drain in drains]
    if settled is None:
        return
    deleted = {day.day: day for day in settled if day.outcome == "deleted"}
    files = [deleted[day].entries if day in deleted else 0 for day in days]
    sizes = [deleted[day].bytes if day in deleted else 0 for day in days]
    ages = list(_ages(days, settled, current))
    list_url = _list(request, "settledfiledeletion")
    links = [f"{list_url}?{urlencode(range_query('settled_at', day, day))}" for day in days]
    limit = settings.max_age.total_seconds()
    found.charts = [
        bars(
            *("files", _("Files deleted per day"), days, files, lambda value: number(int(value))),
            _("%(files)s in %(days)s days") % {"files": plural(sum(files), "file"), "days": DAYS},
            links=links,
        ),
        bars(
            *("bytes", _("Bytes deleted per day"), days, sizes, lambda value: size(int(value))),
            _("%(size)s in %(days)s days") % {"size": size(sum(sizes)), "days": DAYS},
            links=links,
        ),
        bars(
            *("age", _("Age of the oldest pending file, per day"), days, ages, _wait),
            _("at most %(age)s in %(days)s days") % {"age": _wait(max(ages)), "days": DAYS},
            links=links,
            tone="age",
            limit=(limit, f"PGCLEANUP_MAX_AGE: {period(settings.max_age)}"),
        ),
    ]


def _ages(days: Sequence[date], settled: Sequence[bounded.Day], current: Age | None) -> Iterator[float]:
    """Yield how far behind each day was: by what was settled on it, and what was pending when it ended."""
    now, grace = _now(), settings.grace_period
    behind = current.oldest if current is not None else None
    for day in days:
        end = min(in_utc(midnight(day + timedelta(days=1))), now)
        ages = [one.longest - grace for one in settled if one.day == day]
        ages += [end - one.oldest - grace for one in settled if one.day > day]
        ages += [behind - (now - end)] if behind is not None else []
        yield max([timedelta(0), *ages]).total_seconds()


def _now() -> datetime:
    # Aware also with USE_TZ = False, as what our own SQL reads.
    return datetime.now(timezone.utc)


def _wait(seconds: float) -> str:
    return duration(timedelta(seconds=seconds))


def _deleted(drain: bounded.Drained) -> str:
    return f"{number(drain.deleted)} ({size(drain.bytes)})" if drain.deleted else "0"


def _sum(counts: list[bounded.Count]) -> str:
    total = min(sum(count.entries for count in counts), COUNTED)
    return f"{number(total)}+" if any(count.capped for count in counts) else number(sum(c.entries for c in counts))


def _rank(key: str) -> int:
    return _ORDER.index(key) if key in _ORDER else len(_ORDER)


def _list(request: Any, model: str) -> str:
    return reverse(f"admin:{PendingFileDeletion._meta.app_label}_{model}_changelist", current_app=request.current_app)
