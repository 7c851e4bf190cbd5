"""What both lists have in common: read-only, and cheap on tables of any size."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value, unquote
from django.db import connections, router
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from pgcleanup.admin.entry import entry_page
from pgcleanup.admin.lists import COUNTED, CappedPaginator, days_of
from pgcleanup.admin.rights import readable
from pgcleanup.status import find_problems
from pgcleanup.status.words import shown

NAME_LENGTH = 44
"""Longer names are cut in the middle; the whole one is in the title, and on the entry's page."""

_OBJECT = re.compile(r"(\w+\.\w+)(?:\.\w+)?:(.+)")


class LedgerAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A table that triggers and drains write, and people look at."""

    change_form_template = "admin/pgcleanup/entry.html"
    change_list_template = "admin/pgcleanup/ledger.html"
    date_field: str
    """Whose days the list can be narrowed down to."""
    # Left out on a phone, see admin.css.
    empty_value_display = '<span class="pgcleanup-none">-</span>'
    list_display_links = ["file"]
    ordering = ["-id"]
    paginator = CappedPaginator
    search_fields = ["name", "object_pk__exact"]
    search_help_text = _("part of a file name, key of an object, or app.model:key")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ["pgcleanup/admin.css"]}

    @property
    def using(self) -> str:
        """The database that the list is of, whose entries it changes. A subclass may name another one."""
        return router.db_for_write(self.model)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read where it also writes, not from a replica that is behind."""
        return super().get_queryset(request).using(self.using)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # On another database than PostgreSQL there is no table to show.
        return connections[self.using].vendor == "postgresql" and super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return connections[self.using].vendor == "postgresql" and super().has_module_permission(request)

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Say on the admin's first page what is wrong. It asks here, and nowhere else before it is rendered."""
        warn_on_index(request, self)
        return super().get_model_perms(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find app.model:key, too."""
        if (meant := _OBJECT.fullmatch(search_term.strip())) and _is_model(meant[1]):
            return queryset.filter(Q(source__startswith=f"{meant[1].lower()}."), object_pk=meant[2]), False
        if not search_term.strip():
            return queryset, False
        # Few may match, and then each look reads the whole table: once, not again for the count and for each page.
        found, _twice = super().get_search_results(request, queryset, search_term)
        keys = found.order_by("-id").values_list("pk", flat=True)[:COUNTED]
        return queryset.filter(pk__in=list(keys)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Name the list without "Select ... to view"."""
        context: dict[str, Any] = {"title": capfirst(str(self.opts.verbose_name_plural))}
        if self.has_view_permission(request):
            context["days"] = days_of(self.using, self.opts.db_table, self.date_field, request)
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @readable
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Tell the whole story of the file."""
        entry = self.get_object(request, unquote(object_id))
        if entry is not None and self.has_view_permission(request, entry):
            context = {"title": _("File"), "subtitle": shown(entry.name, 100), **entry_page(self, request, entry)}
            extra_context = {**context, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra_context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the entry, whose page has its history, what people did to it included."""
        view = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return redirect(reverse(view, args=[object_id], current_app=self.admin_site.name))

    @admin.display(description=_("file"))
    def file(self, entry: Any) -> str:
        """Return the name, and in a second line what let it go: a column for each would leave the screen."""
        row = f" {shown(entry.object_pk, 20)}" if entry.object_pk is not None else ""
        return format_html(
            '<span title="{}">{}</span> <span class="pgcleanup-of">{} {}{}</span>',
            entry.name,
            shown(entry.name, NAME_LENGTH),
            entry.get_operation_display(),
            entry.source,
            row,
        )

    @admin.display(description=_("let go under keep()"))
    def kept(self, entry: Any) -> str:
        return str(_("yes") if entry.keep else _("no"))

    @admin.display(description=_("first seen by a drain"))
    def first_seen(self, entry: Any) -> str:
        return self.time(entry.stamped_at)

    def time(self, value: datetime | None) -> str:
        """Return a time as Django shows one of a field: what a method returns is shown as it is."""
        return str(display_for_value(value, self.get_empty_value_display()))


def warn_on_index(request: HttpRequest, model_admin: LedgerAdmin) -> None:
    """Put what is wrong above the admin's first page, once, for those who may see the ledger.

    Through Django's messages, which every theme shows: most sites have no monitoring, and everybody sees that page.
    """
    match = request.resolver_match
    if match is None or match.url_name != "index" or "admin" not in match.app_names:
        return
    if getattr(request, "_pgcleanup_warned", False) or not model_admin.has_view_permission(request):
        return
    request._pgcleanup_warned = True  # type: ignore[attr-defined]
    overview = reverse("admin:app_list", args=["pgcleanup"], current_app=match.namespace)
    for problem in find_problems(model_admin.using):
        text = format_html('{} <a href="{}">{}</a>', str(problem), overview, _("Overview of file deletions"))
        messages.warning(request, text, fail_silently=True)


def _is_model(label: str) -> bool:
    try:
        apps.get_model(label)
    except LookupError:
        return False
    return True
