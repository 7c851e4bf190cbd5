"""The overview, for the template of the app's page in the admin: Django lets nothing else into that view."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.sites import all_sites

from pgcleanup.admin.overview import Overview, overview_of
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion

register = template.Library()


@register.simple_tag(takes_context=True)
def pgcleanup_overview(context: template.Context) -> Overview | None:
    """Return the overview; None for who may not see what is pending."""
    apps: list[dict[str, Any]] = context.get("app_list") or []
    seen = {model.get("model") for app in apps for model in app["models"] if model["perms"].get("view")}
    if PendingFileDeletion not in seen:
        return None
    request = context["request"]
    registries = [site._registry for site in all_sites if site.name == request.current_app]
    shown: Any = next(one[PendingFileDeletion] for one in registries if PendingFileDeletion in one)
    return overview_of(request, shown.using, history=SettledFileDeletion in seen)
