"""What became of each name, when, why and by whom."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from pgcleanup.admin.base import LedgerAdmin
from pgcleanup.admin.lists import OperationFilter, OutcomeFilter, SourceFilter, UserFilter
from pgcleanup.admin.rights import readable
from pgcleanup.models import Outcome, SettledFileDeletion
from pgcleanup.status import find_stops
from pgcleanup.status.words import kept_because, size


@admin.register(SettledFileDeletion)
class SettledAdmin(LedgerAdmin):
    """The history."""

    actions = None
    date_field = "settled_at"
    list_display = ["file", "outcome", "because", "size", "settled_at"]
    list_filter = [OutcomeFilter, SourceFilter, OperationFilter, UserFilter, ("settled_at", admin.DateFieldListFilter)]
    fields = [
        *("name", "source", "outcome", "because", "size", "settled_at", "drained_by", "object_pk", "operation"),
        *("recorded_at", "first_seen", "db_user", "application_name", "transaction_id", "context", "kept"),
        *("attempts", "last_error", "cancelled_at"),
    ]
    readonly_fields = ["because", "size", "first_seen", "kept"]

    @readable
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Say why nothing is added to the list, where no drain may delete."""
        if self.has_view_permission(request):
            for problem in find_stops(self.using):
                messages.warning(request, str(problem))
        return super().changelist_view(request, extra_context)

    @admin.display(description=_("reason"))
    def because(self, entry: SettledFileDeletion) -> str:
        """Return the reason in the words of `drain_deletions`."""
        reason = kept_because(entry.reason) if entry.outcome == Outcome.KEPT else entry.reason
        return reason or self.get_empty_value_display()

    @admin.display(description=_("size"))
    def size(self, entry: SettledFileDeletion) -> str:
        return (
            self.get_empty_value_display()
            if entry.bytes is None
            else size(entry.bytes).replace(" ", "\N{NO-BREAK SPACE}")
        )
