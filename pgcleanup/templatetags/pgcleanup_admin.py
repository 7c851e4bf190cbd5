"""The overview, for the template of the app's page in the admin: Django lets nothing else into that view."""

from __future__ import annotations

from typing import Any

from django import template

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
    using = PendingFileDeletion._default_manager.db
    return overview_of(context["request"], using, history=SettledFileDeletion in seen)
