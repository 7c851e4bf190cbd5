"""A "File history" link for a project's own model admins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, connections, models
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from pgcleanup.admin.rights import may_view, refusal
from pgcleanup.ledger import bounded
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion

SHOWN = 100
PATIENCE = timedelta(seconds=5)


class FileHistoryMixin:
    """Puts "File history" on the pages of a model's objects: every file that the object let go, and what became of it.

    Goes in front of ModelAdmin: `class DocumentAdmin(FileHistoryMixin, admin.ModelAdmin)`. Seen by those who may view
    settled file deletions. An admin with a `change_form_template` of its own finds the link in `file_history_url`.
    """

    change_form_template: str | None = "admin/pgcleanup/file_history_link.html"
    model: type[models.Model]
    opts: Any
    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        """Add the page of an object's files."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_file_history"
        view = self.admin_site.admin_view(self.file_history_view)
        return [path("<path:object_id>/file-history/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Bring the link along."""
        context = {"file_history_url": self._history_url(object_id)} if self._may_see(request) else {}
        response: HttpResponse = super().change_view(  # type: ignore[misc]
            request, object_id, form_url, {**context, **(extra_context or {})}
        )
        return response

    def file_history_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what became of the files of one object."""
        if not self._may_see(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        # None where it was deleted, or where this admin does not show it: the history stays.
        instance = self.get_object(request, unquote(object_id))  # type: ignore[attr-defined]
        if instance is not None and not self.has_view_permission(request, instance):  # type: ignore[attr-defined]
            raise PermissionDenied
        # Where the object is: its names are in the ledger of the same database.
        using = self.get_queryset(request).db  # type: ignore[attr-defined]
        if connections[using].vendor != "postgresql":
            raise Http404
        if (page := refusal(self.admin_site, request, using)) is not None:
            return page
        asked, too_slow = _of_object(self.model, unquote(object_id)), False
        may_see_pending = may_view(self.admin_site, request, PendingFileDeletion)
        waiting = PendingFileDeletion._default_manager.using(using).filter(asked).order_by("-id")
        pending = list(waiting[:SHOWN]) if may_see_pending else []
        try:
            with bounded.at_most(using, PATIENCE.total_seconds()):
                settled = list(SettledFileDeletion._default_manager.using(using).filter(asked).order_by("-id")[:SHOWN])
        except DatabaseError:
            settled, too_slow = [], True
        context = {
            **self.admin_site.each_context(request),
            "title": _("File history"),
            "subtitle": str(instance) if instance is not None else unquote(object_id),
            "opts": self.opts,
            "instance": instance,
            "object_url": reverse(
                f"admin:{self.opts.app_label}_{self.opts.model_name}_change",
                args=[object_id],
                current_app=self.admin_site.name,
            ),
            "pending": pending,
            "may_see_pending": may_see_pending,
            # The pages of another database's entries are not in this admin.
            "linked": using == self.admin_site._registry[SettledFileDeletion].using,
            "using": using,
            "settled": settled,
            "too_slow": too_slow,
            "shown": SHOWN,
            "label": self.opts.label_lower,
            "object_pk": unquote(object_id),
        }
        return TemplateResponse(request, "admin/pgcleanup/file_history.html", context)

    def _may_see(self, request: HttpRequest) -> bool:
        # Of the model, also where the object is gone.
        may_view_model: bool = self.has_view_permission(request)  # type: ignore[attr-defined]
        return may_view_model and may_view(self.admin_site, request, SettledFileDeletion)

    def _history_url(self, object_id: str) -> str:
        name = f"{self.opts.app_label}_{self.opts.model_name}_file_history"
        return reverse(f"admin:{name}", args=[quote(unquote(object_id))], current_app=self.admin_site.name)


def _of_object(model: type[models.Model], key: str) -> Q:
    """Ask for the entries of an object: of its own table, and of the tables it inherits."""
    labels = {model._meta.concrete_model._meta.label_lower, *_labels(model)}  # type: ignore[union-attr]
    asked = Q()
    for label in labels:
        asked |= Q(source__startswith=f"{label}.")
    return asked & Q(object_pk=key)


def _labels(model: type[models.Model]) -> Iterator[str]:
    for field in model._meta.concrete_fields:
        if isinstance(field, models.FileField):
            yield field.model._meta.concrete_model._meta.label_lower  # type: ignore[union-attr]
