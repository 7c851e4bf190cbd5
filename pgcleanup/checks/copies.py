"""Columns that hold file names in another way than a file field's: what that means for the files, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DEFAULT_DB_ALIAS, models

from pgcleanup.checks.configuration import has_postgresql, is_readable
from pgcleanup.columns import find_file_columns
from pgcleanup.conf import settings


def check_copies(**kwargs: Any) -> list[CheckMessage]:
    """Name the columns in which django-simple-history and django-pghistory keep file names, and arrays of them."""
    if not has_postgresql() or not is_readable():
        return []
    messages: list[CheckMessage] = []
    if texts := sorted(_text_copies()):
        messages.append(
            checks.Warning(
                f"History tables hold file names as text, which does not keep their files: {', '.join(texts)}.",
                hint=f"To keep a file as long as its history names it: PGCLEANUP_EXTRA_REFERENCES = {_list(texts)}. "
                'Where the files may go: SILENCED_SYSTEM_CHECKS = ["pgcleanup.W008"]',
                id="pgcleanup.W008",
            )
        )
    if events := sorted(_event_copies()):
        messages.append(
            checks.Warning(
                f"Event tables name every file that there ever was, so it is never deleted: {', '.join(events)}.",
                hint=f"To delete them all the same: PGCLEANUP_IGNORE_REFERENCES = {_list(events)}. "
                'Where they are to stay: SILENCED_SYSTEM_CHECKS = ["pgcleanup.W009"]',
                id="pgcleanup.W009",
            )
        )
    if arrays := sorted(_arrays()):
        messages.append(
            checks.Warning(
                f"Arrays of file names are not watched: {', '.join(arrays)}. A name in one does not keep its file, and "
                "the file of a name that leaves one is not deleted.",
                hint="Keep each name in a row of its own, in a FileField. Where nothing else names these files: "
                'SILENCED_SYSTEM_CHECKS = ["pgcleanup.W020"]',
                id="pgcleanup.W020",
            )
        )
    return messages


def _arrays() -> Iterator[str]:
    """Yield the columns of `ArrayField(FileField())`, of any depth."""
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_concrete_fields:
            inner = base = getattr(field, "base_field", None)
            while base is not None:
                inner, base = base, getattr(base, "base_field", None)
            if isinstance(inner, models.FileField):
                yield f"{model._meta.label}.{field.name}"


def _text_copies() -> Iterator[str]:
    """Yield the text columns of historical models that copy a file field of the model they track.

    django-simple-history turns a FileField into a text field of the same name, and gives the historical
    model `instance_type`, the tracked model, and `history_object`.
    """
    known = {label.lower() for label in settings.extra_references}
    for model in apps.get_models(include_auto_created=True):
        tracked = getattr(model, "instance_type", None)
        if not _is_model(tracked) or not hasattr(model, "history_object"):
            continue
        copied = {field.name for field in tracked._meta.concrete_fields if isinstance(field, models.FileField)}
        for field in model._meta.local_concrete_fields:
            label = f"{model._meta.label}.{field.name}"
            if field.name in copied and not isinstance(field, models.FileField) and label.lower() not in known:
                yield label


def _event_copies() -> Iterator[str]:
    """Yield the file columns of event models that are not ignored. django-pghistory copies fields as they are."""
    for column in find_file_columns(DEFAULT_DB_ALIAS).stored:
        if _is_model(getattr(column.model, "pgh_tracked_model", None)):
            yield f"{column.model._meta.label}.{column.field.name}"


def _is_model(value: object) -> TypeGuard[type[models.Model]]:
    return isinstance(value, type) and issubclass(value, models.Model)


def _list(labels: list[str]) -> str:
    return "[" + ", ".join(f'"{label}"' for label in labels) + "]"
