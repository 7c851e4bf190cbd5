"""What waits to be deleted, and what people can do about it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from pgcleanup.admin.base import LedgerAdmin
from pgcleanup.admin.lists import STATES, OperationFilter, SourceFilter, StateFilter, UserFilter
from pgcleanup.admin.operations import Operations
from pgcleanup.admin.rights import may_view, readable
from pgcleanup.conf import settings
from pgcleanup.ledger import state
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.status import age, find_problems
from pgcleanup.status.words import duration, shown

_TONES = {"failed": "bad", "retrying": "warning", "transaction": "warning"}


class PendingChangeList(ChangeList):
    """Brings along the state of the entries on the page, in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        entries = list(self.result_list)
        using = self.model_admin.using  # type: ignore[attr-defined]
        reasons = state.reasons(using, [entry.pk for entry in entries], settings.grace_period)
        for entry in entries:
            entry.reason = reasons.get(entry.pk)
        self.result_list = entries


@admin.register(PendingFileDeletion)
class PendingAdmin(Operations, LedgerAdmin):
    """What waits to be deleted, and how far behind that is."""

    actions = ["retry", "cancel"]
    date_field = "recorded_at"
    list_display = ["file", "state", "due", "recorded_at", "error"]
    list_filter = [StateFilter, SourceFilter, OperationFilter, UserFilter, ("recorded_at", admin.DateFieldListFilter)]
    fields = [
        *("name", "source", "state", "due_time", "object_pk", "operation", "recorded_at", "first_seen", "db_user"),
        *("application_name", "transaction_id", "context", "kept", "attempts", "retry_at", "last_error"),
        *("exhausted_at", "cancelled_at"),
    ]
    readonly_fields = ["state", "due_time", "first_seen", "kept"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PendingChangeList

    @readable
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Put the age above the list, and what is wrong above that."""
        if self.has_view_permission(request):
            if request.method == "GET":
                for problem in find_problems(self.using):
                    messages.warning(request, str(problem))
            extra_context = {"subtitle": _headline(self.using), **(extra_context or {})}
        return super().changelist_view(request, extra_context)

    @readable
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show an entry where it is by now: a link to it outlives its settlement."""
        key = unquote(object_id)
        pending = not key.isdecimal() or self.get_object(request, key) is not None
        may_follow = may_view(self.admin_site, request, SettledFileDeletion)
        if (
            not pending
            and may_follow
            and SettledFileDeletion._default_manager.using(self.using).filter(pk=key).exists()
        ):
            view = "admin:pgcleanup_settledfiledeletion_change"
            return redirect(reverse(view, args=[object_id], current_app=self.admin_site.name))
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.display(description=_("state"))
    def state(self, entry: Any) -> str:
        reason, seen_at = self._reason(entry)
        if entry.cancelled_at is not None:
            return format_html('<span class="pgcleanup-state">{}</span>', _("cancelled, the file stays"))
        if reason == "grace_period":
            reason = "unseen" if seen_at is None else reason
        words = str(STATES.get(reason, reason.replace("_", " ")))
        return format_html('<span class="pgcleanup-state {}">{}</span>', _TONES.get(reason, ""), words)

    @admin.display(description=_("due at"))
    def due(self, entry: Any) -> datetime | None:
        """Return when the next thing happens; unknown until a drain has seen the entry."""
        reason, seen_at = self._reason(entry)
        if reason == "grace_period":
            return seen_at + settings.grace_period if seen_at is not None else None
        return None if reason in ("due", "transaction", "failed") else entry.retry_at

    @admin.display(description=_("due at"))
    def due_time(self, entry: Any) -> str:
        return self.time(self.due(entry))

    @admin.display(description=_("first seen by a drain"))
    def first_seen(self, entry: Any) -> str:
        return self.time(self._reason(entry)[1])

    def _reason(self, entry: Any) -> tuple[str, datetime | None]:
        if not hasattr(entry, "reason"):
            entry.reason = state.reasons(self.using, [entry.pk], settings.grace_period).get(entry.pk)
        # None where a drain has settled it meanwhile.
        return entry.reason or ("settled", None)

    @admin.display(description=_("last error"))
    def error(self, entry: Any) -> str:
        return shown(entry.last_error, 60) if entry.attempts else ""


def _headline(using: str) -> str:
    """Say how far behind the database is; nothing where that cannot be read."""
    try:
        found = age(using)
    except Error:
        return ""
    text = capfirst(str(found))
    if found.oldest == timedelta(0):
        text = f"Oldest pending file: {duration(found.oldest)} past its grace period, {found}"
    note = "" if settings.delete_files else " Nothing is deleted: PGCLEANUP_DELETE_FILES is False."
    return f"{text}.{note}"
