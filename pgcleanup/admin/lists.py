"""Filters and paging of the two lists, cheap on tables of any size."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from pgcleanup.columns import find_file_columns
from pgcleanup.conf import settings
from pgcleanup.ledger import bounded
from pgcleanup.models import Operation, Outcome

COUNTED = 10_000
"""Rows of a list that are counted, and can be paged through. The tables have no bound."""

OTHER = "-"
RECENT = 2_000
"""Newest rows whose database users can be chosen from: all of them would be read for each page."""
SETTLED = [Outcome.DELETED, Outcome.KEPT, Outcome.ABSENT, Outcome.REJECTED, Outcome.CANCELLED]
STATES = {
    "unseen": _("waiting for a drain"),
    "grace_period": _("in its grace period"),
    "transaction": _("waiting for a transaction"),
    "due": _("due now"),
    "retrying": _("retrying"),
    "failed": _("failed"),
    "upload_window": _("waiting, file too young"),
    "other_entry": _("waiting, let go once more"),
    "scan": _("waiting for company"),
}
"""What an entry waits for: the words of `DrainReport.waiting`, for people."""
LEFT = "left"


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than people page."""

    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[:COUNTED].count())  # type: ignore[attr-defined]  # a query set

    @property
    def is_capped(self) -> bool:
        """Whether there may be more."""
        return self.count >= COUNTED


class ChoiceFilter(admin.SimpleListFilter):
    """By a column whose values are known without a look at the table."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class SourceFilter(ChoiceFilter):
    """By file field. The fields come from the models: a DISTINCT would read the whole table for each page."""

    title = _("field")
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        self.sources = [column.source for column in find_file_columns(model_admin.using).stored]
        return [*((source, source) for source in self.sources), (OTHER, _("of no installed model"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == OTHER:
            return queryset.exclude(source__in=self.sources)
        return super().queryset(request, queryset)


class OutcomeFilter(ChoiceFilter):
    """By what became of the name, of the outcomes that settle one."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(outcome.value, outcome.label) for outcome in SETTLED]


class OperationFilter(ChoiceFilter):
    """By what made the name go."""

    title = _("operation")
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(Operation.choices)


class UserFilter(ChoiceFilter):
    """By the database user who let the name go, of those in the newest entries."""

    title = _("database user")
    parameter_name = "db_user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        newest = model_admin.get_queryset(request).order_by("-id").values_list("db_user", flat=True)[:RECENT]
        asked = request.GET.get("db_user")
        return [(user, user) for user in sorted({*newest, *([asked] if asked else [])})]


class StateFilter(admin.SimpleListFilter):
    """By what a pending entry waits for."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        self.using = model_admin.using
        states = ("unseen", "grace_period", "transaction", "due", "retrying", "failed")
        return [*((state, capfirst(STATES[state])) for state in states), (LEFT, _("Left for later by a drain"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state, using, grace = self.value(), self.using, settings.grace_period
        if state is None:
            return queryset
        if state == "failed":
            return queryset.filter(exhausted_at__isnull=False)
        queryset = queryset.filter(exhausted_at__isnull=True)
        if state == "unseen":
            return queryset.filter(stamp_id__isnull=True)
        young = bounded.stamps_in_grace(using, grace)
        if state == "grace_period":
            return queryset.filter(stamp_id__in=young)
        held = bounded.stamps_held(using, grace)
        if state == "transaction":
            return queryset.filter(stamp_id__in=held)
        queryset = queryset.filter(stamp_id__isnull=False).exclude(stamp_id__in=[*young, *held])
        later = Q(retry_at__gt=timezone.now())
        if state == "due":
            return queryset.filter(Q(retry_at__isnull=True) | ~later)
        return queryset.filter(later, **({"attempts__gt": 0} if state == "retrying" else {"attempts": 0}))


@dataclass(frozen=True, slots=True)
class Days:
    """Links to the months, or the days of one month, in which a list may have something."""

    choices: list[dict[str, str]]
    back: dict[str, str] | None = None
    show: bool = True


def days_of(using: str, table: str, field: str, request: HttpRequest) -> Days | None:
    """Return what Django's date_hierarchy would show, without reading the table for it.

    It goes by the first and the last row, so it may offer a day on which nothing happened.
    """
    found = bounded.first_and_last(using, table, field)
    if found is None:
        return None
    first, last = (day_of(moment) for moment in found)
    asked = _asked(request.GET.get(f"{field}__gte"))
    if asked is not None and first.replace(day=1) <= asked <= last:
        return Days(
            choices=[_choice(field, request, day, day, "MONTH_DAY_FORMAT") for day in _days(asked, first, last)],
            back={"link": _link(field, request), "title": str(_("All dates"))},
        )
    if (last - first).days < 8:
        return Days([_choice(field, request, day, day, "MONTH_DAY_FORMAT") for day in _between(first, last)])
    months = sorted({day.replace(day=1) for day in _between(first, last)})
    return Days([_choice(field, request, month, _end(month), "YEAR_MONTH_FORMAT") for month in months])


def range_query(field: str, first: date, last: date) -> dict[str, str]:
    """Return the parameters that narrow a list down to some days."""
    end = midnight(last + timedelta(days=1))
    return {f"{field}__gte": midnight(first).isoformat(" "), f"{field}__lt": end.isoformat(" ")}


def midnight(day: date) -> datetime:
    """Return when a day began where the admin's user is."""
    moment = datetime.combine(day, time())
    return timezone.make_aware(moment) if django_settings.USE_TZ else moment


def day_of(moment: datetime) -> date:
    """Return the day on which a time was where the admin's user is."""
    return timezone.localtime(moment).date() if timezone.is_aware(moment) else moment.date()


def _choice(field: str, request: HttpRequest, first: date, last: date, form: str) -> dict[str, str]:
    return {"link": _link(field, request, **range_query(field, first, last)), "title": date_format(first, form)}


def _link(field: str, request: HttpRequest, **query: str) -> str:
    parameters = request.GET.copy()
    for name in (f"{field}__gte", f"{field}__lt", "p", "e"):
        parameters.pop(name, None)
    parameters.update(query)
    return f"?{parameters.urlencode()}"


def _asked(value: str | None) -> date | None:
    try:
        moment = parse_datetime(value or "")
    except ValueError:
        return None
    return day_of(moment) if moment is not None else None


def _days(asked: date, first: date, last: date) -> list[date]:
    month = asked.replace(day=1)
    return _between(max(first, month), min(last, _end(month)))


def _end(month: date) -> date:
    return month.replace(day=monthrange(month.year, month.month)[1])


def _between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
