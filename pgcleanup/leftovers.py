"""What a project that left django-cleanup still says to it. The package may be there, and takes it all in silence."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import models

from pgcleanup.cleanup import is_ignored, is_selected
from pgcleanup.columns import is_left_alone
from pgcleanup.conf import settings

_SIGNALS = ("cleanup_pre_delete", "cleanup_post_delete")


def leftovers() -> Iterator[tuple[str, str]]:
    """Yield a sentence for each mark and receiver that nothing reads any more, and what to do. Settings must be sound.

    A mark that ours, or a setting, says as well is none: in somebody else's app it has to stay.
    """
    if apps.is_installed("django_cleanup"):
        return
    for model in apps.get_models(include_auto_created=True):
        fields = [field for field in model._meta.concrete_fields if isinstance(field, models.FileField)]
        label = model._meta.label
        if fields and _is_marked(model, "ignore") and not (is_ignored(model) or all(map(_is_left_alone, fields))):
            yield (
                f"{label} is marked with django_cleanup's ignore, which nothing reads any more: its files are deleted",
                f'Import it from pgcleanup, or, in an app that is not yours: PGCLEANUP_EXCLUDE = ["{label}"]',
            )
        if fields and _is_marked(model, "select") and not (is_selected(model) or all(map(_is_included, fields))):
            yield (
                f"{label} is marked with django_cleanup's select, which nothing reads any more",
                f'Import it from pgcleanup, or, in an app that is not yours: PGCLEANUP_INCLUDE = ["{label}"]',
            )
    for signal, receiver in _receivers():
        yield (
            f"{receiver} is connected to django_cleanup's {signal}, which nobody sends any more",
            "Import the signal from pgcleanup.signals; or, where it is an app's that is not yours: "
            "pip uninstall django-cleanup",
        )


def _is_marked(model: type[models.Model], mark: str) -> bool:
    # As django_cleanup.cache mangles it: a subclass does not inherit what it looks for.
    return hasattr(model, f"_{model._meta.model_name}__{model._meta.app_label}_cleanup_{mark}")


def _is_left_alone(field: models.Field[Any, Any]) -> bool:
    return is_left_alone(f"{field.model._meta.label_lower}.{field.name}")


def _is_included(field: models.Field[Any, Any]) -> bool:
    model = field.model._meta.label_lower
    return not {label.lower() for label in settings.include}.isdisjoint({model, f"{model}.{field.name}"})


def _receivers() -> Iterator[tuple[str, str]]:
    module = sys.modules.get("django_cleanup.signals")
    for name in _SIGNALS:
        for entry in getattr(getattr(module, name, None), "receivers", ()):
            receiver = entry[1]() if isinstance(entry[1], weakref.ref) else entry[1]
            if receiver is not None:
                kind = receiver if hasattr(receiver, "__qualname__") else type(receiver)
                yield name, f"{kind.__module__}.{kind.__qualname__}"
