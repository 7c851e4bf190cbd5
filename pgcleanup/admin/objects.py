"""The row that held a name: its words, whether it is still there, and its page in the admin."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst


def linked_object(model_admin: Any, request: HttpRequest, entry: Any) -> dict[str, Any]:
    """Return what is known of the row that held the name of an entry."""
    label, _dot, field = entry.source.rpartition(".")
    found: dict[str, Any] = {"label": label, "field": field, "pk": entry.object_pk, "known": False}
    try:
        model: Any = apps.get_model(label)
    except (LookupError, ValueError):
        return found
    found["label"] = capfirst(str(model._meta.verbose_name))
    if entry.object_pk is None:
        return found
    try:
        found["there"] = _is_there(model, model_admin.using, entry.object_pk)
        found["known"] = True
        if found["there"]:
            found |= _page(model_admin, request, model, entry.object_pk)
    except (DatabaseError, ValidationError, ValueError, NoReverseMatch):
        pass
    return found


def _is_there(model: Any, using: str, key: str) -> bool:
    # Of the base manager: what a model's own hides is there all the same, and keeps its file.
    pk = json.loads(key) if len(model._meta.pk_fields) > 1 else model._meta.pk.to_python(key)
    return bool(model._base_manager.using(using).filter(pk=pk).exists())


def _page(model_admin: Any, request: HttpRequest, model: Any, key: str) -> dict[str, str]:
    """Return words and address of the row for who may see them."""
    site = model_admin.admin_site
    other_admin = site._registry.get(model)
    if other_admin is None or other_admin.get_queryset(request).db != model_admin.using:
        return {}
    instance = other_admin.get_object(request, key)
    if instance is None or not other_admin.has_view_permission(request, instance):
        return {}
    view = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    return {"text": str(instance), "url": reverse(view, args=[key], current_app=site.name)}
