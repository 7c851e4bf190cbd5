"""The file columns of the installed models. Pure Python: models and settings in, `FileColumn`s out, no SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.apps import apps
from django.core.files.storage import Storage
from django.db import models, router

from pgcleanup import sql
from pgcleanup.cleanup import is_ignored, is_selected
from pgcleanup.conf import settings
from pgcleanup.storage_keys import StorageKeys, unwrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class FileColumn:
    """A column that holds file names: a `FileField`, or a text column named in `PGCLEANUP_EXTRA_REFERENCES`.

    `table` is in quotes, ready for SQL; `column` and `primary_key` are plain, as the catalog has them.
    """

    source: str
    model: type[models.Model]
    field: models.Field[Any, Any]
    table: str
    column: str
    primary_key: tuple[str, ...]
    storage_key: str | None
    """Where its files are; None for an extra reference, which may name a file in any storage."""
    excluded: bool
    """Whether settings or decorators leave its files alone. It counts as a reference all the same."""
    recorded: bool
    """Whether it gets record triggers in this database."""
    dropped: bool = False
    """Whether it is there no more, and only its names still wait: see `pgcleanup.triggers.dropped`."""
    also: frozenset[str | None] = frozenset()
    """The storages of other models on the same table, whose names this column holds as well; None as above."""

    @property
    def storage(self) -> Storage:
        """The storage itself, resolved."""
        return unwrapped(self.field.storage)  # type: ignore[attr-defined]  # a FileField, see storage_key


class FileColumns(tuple[FileColumn, ...]):
    """All file columns of one database, one for each column of a table, in app order."""

    @cached_property
    def by_source(self) -> dict[str, FileColumn]:
        """The columns by their source."""
        return {column.source: column for column in self}

    @cached_property
    def stored(self) -> FileColumns:
        """The columns whose files a drain could delete: all but the extra references."""
        return FileColumns(column for column in self if column.storage_key is not None)

    def naming(self, key: str) -> FileColumns:
        """Return the columns that may name a file of the storage `key`."""
        places = {key, None}
        return FileColumns(c for c in self if c.storage_key in places or not places.isdisjoint(c.also))


def find_file_columns(using: str) -> FileColumns:
    """Return the file columns of all installed models, as the database `using` would have them.

    Every model counts, whatever a router says of it: a table that exists there holds references. Only
    models that the router allows are recorded. Columns in `PGCLEANUP_IGNORE_REFERENCES` are left out.

    Where two models share a table, the column belongs to the managed one, else to the first in app order.
    """
    labels = _Labels()
    found: dict[tuple[str, str], FileColumn] = {}
    models_with_files = [(model, fields) for model in _concrete_models() if (fields := labels.fields_of(model))]
    order = {model: index for index, (model, _) in enumerate(models_with_files)}
    allowed = {model: router.allow_migrate_model(using, model) for model in order}
    for model, fields in sorted(models_with_files, key=lambda pair: (not allowed[pair[0]], not pair[0]._meta.managed)):
        for field in fields:
            for column in _column(field, using, labels, allowed=allowed[model]):
                first = found.setdefault((column.table, column.column), column)
                if column.storage_key != first.storage_key:
                    found[column.table, column.column] = replace(first, also=first.also | {column.storage_key})
    # Only now, or a second model on the table would take over the column that the first one's label ignores.
    columns = (column for column in found.values() if not labels.ignore(column.field))
    return FileColumns(sorted(columns, key=lambda column: order[column.model]))


def ignored_sources() -> list[str]:
    """Return the sources of the file fields that `PGCLEANUP_IGNORE_REFERENCES` names."""
    return [
        f"{model._meta.label_lower}.{field.name}"
        for model in _concrete_models()
        for field in file_fields(model)
        if _labelled(field, _lower(settings.ignore_references))
    ]


def column_of(field: models.Field[Any, Any], using: str) -> FileColumn | None:
    """Return the column of a field of any model, as a migration has them: such a model is not installed."""
    return next(_column(field, using, _Labels(), allowed=True), None)


def is_left_alone(source: str) -> bool:
    """Whether settings or a decorator leave alone the files of a field that the models may not have any more.

    What a class decorator chose for PGCLEANUP_COLUMNS = "selected" went with its class; it is not asked here.
    """
    model_label = source.rpartition(".")[0]
    labels = {label.lower() for label in (*settings.exclude, *settings.ignore_references)}
    model = find_label(model_label)
    return not labels.isdisjoint({source, model_label}) or (isinstance(model, type) and is_ignored(model))


def file_fields(model: type[models.Model]) -> list[models.FileField]:
    """Return the file fields whose column is in this model's own table, in the order of their definition."""
    return [field for field in model._meta.local_concrete_fields if isinstance(field, models.FileField)]


def default_names(columns: Iterable[FileColumn]) -> set[str]:
    """Return the names that are a field's default: never deleted, since new rows will name them again.

    A callable default counts with the value it gives now. A `db_default` counts if it is a plain value.
    """
    return {name for column in columns for name in _defaults_of(column.field)}


def find_label(label: str) -> Any:
    """Return the field or model that a label names, or None."""
    app_label, model_name, *field_name = label.split(".")
    try:
        model = apps.get_model(app_label, model_name)
    except LookupError:
        return None
    if not field_name:
        return model
    return next((field for field in model._meta.concrete_fields if field.name == field_name[0]), None)


def computed(field: Any) -> Any:
    """Return the field itself, or the one that a `GeneratedField` computes: it has no files, but it names them."""
    return getattr(field, "output_field", field)


def _concrete_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]


class _Labels:
    """The settings that choose columns, read once for all of them."""

    def __init__(self) -> None:
        self._ignored = _lower(settings.ignore_references)
        self._excluded = _lower(settings.exclude)
        self._included = _lower(settings.include)
        self._selected_only = settings.columns == "selected"
        self.storage_keys = StorageKeys()
        self._extra = {field for label in settings.extra_references if (field := find_label(label)) is not None}

    def fields_of(self, model: type[models.Model]) -> list[models.Field[Any, Any]]:
        """Return the fields of the model's own table that may name a file."""
        return [
            field
            for field in model._meta.local_concrete_fields
            if isinstance(computed(field), models.FileField) or field in self._extra
        ]

    def ignore(self, field: models.Field[Any, Any]) -> bool:
        """Whether this column does not even count as a reference."""
        return isinstance(computed(field), models.FileField) and _labelled(field, self._ignored)

    def exclude(self, field: models.Field[Any, Any]) -> bool:
        """Whether the files of this field are left alone."""
        if not isinstance(field, models.FileField) or is_ignored(field.model) or _labelled(field, self._excluded):
            return True
        return self._selected_only and not (is_selected(field.model) or _labelled(field, self._included))


def _column(field: models.Field[Any, Any], using: str, labels: _Labels, *, allowed: bool) -> Iterator[FileColumn]:
    """Yield the field's column, or nothing where its table or column name is no valid SQL."""
    model = field.model
    table = sql.django_quoted(model._meta.db_table, using)
    column = sql.django_quoted(str(field.column), using)
    if table is None or column is None:
        return
    excluded = labels.exclude(field)
    yield FileColumn(
        source=f"{model._meta.label_lower}.{field.name}",
        model=model,
        field=field,
        table=table,
        column=sql.unquoted(column),
        primary_key=tuple(_primary_key(model, using)),
        storage_key=labels.storage_keys.of(field) if isinstance(field, models.FileField) else None,
        excluded=excluded,
        recorded=allowed and not excluded,
    )


def _primary_key(model: type[models.Model], using: str) -> Iterator[str]:
    # pk_fields came with composite primary keys in Django 5.2.
    for field in model._meta.pk_fields:
        if (quoted := sql.django_quoted(str(field.column), using)) is not None:
            yield sql.unquoted(quoted)


def _lower(labels: Iterable[str]) -> frozenset[str]:
    return frozenset(_own_label(label) for label in labels)


def _own_label(label: str) -> str:
    """Return the label of the table's own model or field: a proxy's, or one of an inherited field, means that one."""
    found = find_label(label)
    if isinstance(found, type):
        meta: Any = found.__dict__["_meta"]
        return str(meta.concrete_model._meta.label_lower)
    return label.lower() if found is None else f"{found.model._meta.label_lower}.{found.name.lower()}"


def _labelled(field: models.Field[Any, Any], labels: frozenset[str]) -> bool:
    model = field.model._meta.label_lower
    return bool(labels) and (model in labels or f"{model}.{field.name.lower()}" in labels)


def _defaults_of(field: models.Field[Any, Any]) -> Iterator[str]:
    default = field.default() if callable(field.default) else field.default
    for value in (default, getattr(field.db_default, "value", field.db_default)):
        if isinstance(value, str) and value:
            yield value
