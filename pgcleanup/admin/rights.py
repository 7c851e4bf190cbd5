"""Who may see what: the people, by their permissions, and the site's database role, by its rights."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from pgcleanup.status.rights import unreadable

View = TypeVar("View", bound=Callable[..., Any])


def may_view(site: Any, request: HttpRequest, model: type[Model]) -> bool:
    """Whether this user may see pending or settled file deletions in this admin. Either may be without the other."""
    registered = site._registry.get(model)
    return registered is not None and bool(registered.has_view_permission(request))


def readable(view: View) -> View:
    """Let a view of a model admin be asked only where the ledger can be read."""

    @wraps(view)
    def guarded(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if self.has_view_permission(request) and (page := refusal(self.admin_site, request, self.using)) is not None:
            return page
        return view(self, request, *args, **kwargs)

    return guarded  # type: ignore[return-value]


def refusal(site: Any, request: HttpRequest, using: str) -> TemplateResponse | None:
    """Return the page that says which right is missing; None where none is."""
    found = unreadable(using)
    if found is None:
        return None
    sentence, advice = found
    title = _("File deletions cannot be read")
    context = {**site.each_context(request), "title": title, "sentence": sentence, "advice": advice}
    return TemplateResponse(request, "admin/pgcleanup/unreadable.html", context, status=503)
