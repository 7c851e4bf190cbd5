"""Labels in the settings that name nothing, or nothing that the setting is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from pgcleanup.columns import computed, find_file_columns, find_label
from pgcleanup.conf import settings

_TEXT_FIELDS = (models.CharField, models.TextField, models.FileField)
_OF_FILE_FIELDS = ("include", "exclude", "ignore_references")


def label_problems() -> Iterator[str]:
    """Yield a sentence for each label that names no installed model or field, or a field of a kind without files."""
    for setting in (*_OF_FILE_FIELDS, "extra_references"):
        for label in getattr(settings, setting):
            names = f"PGCLEANUP_{setting.upper()} names {label!r}"
            found = find_label(label)
            if found is None:
                yield f"{names}, but there is no such model or field"
            elif setting == "extra_references":
                if not isinstance(computed(found), _TEXT_FIELDS):
                    yield f"{names}, a {type(found).__name__}: only text fields hold file names"
            elif not isinstance(found, type) and not isinstance(computed(found), models.FileField):
                yield f"{names}, a {type(found).__name__}: it is about file fields"


def label_warnings() -> Iterator[tuple[str, str]]:
    """Yield a sentence for each choice that chooses nothing, and what to do."""
    for setting in _OF_FILE_FIELDS:
        for label in getattr(settings, setting):
            found = find_label(label)
            if isinstance(found, type) and not _has_file_fields(found):
                yield (
                    f"PGCLEANUP_{setting.upper()} names {label!r}, whose table has no file field: nothing changes",
                    "Name the model that has the field: of an inherited one, the parent. Or take the label out",
                )
    if settings.columns != "selected":
        if settings.include:
            yield (
                'PGCLEANUP_INCLUDE has no effect without PGCLEANUP_COLUMNS = "selected": all file fields are included',
                'PGCLEANUP_COLUMNS = "selected", or take PGCLEANUP_INCLUDE out',
            )
    elif (stored := find_file_columns(DEFAULT_DB_ALIAS).stored) and all(column.excluded for column in stored):
        yield (
            'PGCLEANUP_COLUMNS is "selected", and no file field is: no file is ever deleted',
            "Mark models with pgcleanup's cleanup.select, or name them in PGCLEANUP_INCLUDE",
        )


def _has_file_fields(model: Any) -> bool:
    fields = model._meta.concrete_model._meta.local_concrete_fields
    return any(isinstance(computed(field), models.FileField) for field in fields)
