"""What application code says to pgcleanup: class decorators, and notes for the open transaction.

Somebody leaving django-cleanup changes the first word of their import: `from pgcleanup import cleanup`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connections, transaction

__all__ = ["cleanup_ignore", "cleanup_select", "context", "ignore", "keep", "refresh", "select"]

C = TypeVar("C", bound=type)

IGNORED = "_pgcleanup_ignored"
SELECTED = "_pgcleanup_selected"

# What `pgcleanup.middleware` notes of the request that is served, and the databases with an open context() block,
# which says it all by itself.
of_request: ContextVar[Callable[[], Mapping[str, Any]] | None] = ContextVar("of_request", default=None)
in_block: ContextVar[frozenset[str]] = ContextVar("in_block", default=frozenset())


def ignore(model: C) -> C:
    """Leave this model's files alone: its columns get no trigger, but still count as references.

    Holds for the decorated class only, not for its subclasses.
    """
    setattr(model, IGNORED, True)
    return model


def select(model: C) -> C:
    """Clean up this model's files where `PGCLEANUP_COLUMNS = "selected"`. Holds for the decorated class only."""
    setattr(model, SELECTED, True)
    return model


cleanup_ignore = ignore
cleanup_select = select


def is_ignored(model: type) -> bool:
    """Tell whether the class itself was decorated with `ignore`."""
    return IGNORED in vars(model)


def is_selected(model: type) -> bool:
    """Tell whether the class itself was decorated with `select`."""
    return SELECTED in vars(model)


def refresh(instance: Any) -> None:
    """Do nothing: there is no instance state to refresh. It is here for code that called django-cleanup's."""


@contextmanager
def keep(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Keep the files of all names that the block's transaction lets go.

    For jobs that rename or move files themselves. The names are recorded all the same and settle as
    kept. Opens `atomic()`, since the note lives as long as the transaction. Not a security boundary: any
    session can set it.
    """
    with _noted("pgcleanup.keep", "on", using):
        yield


@contextmanager
def context(*, using: str = DEFAULT_DB_ALIAS, **data: Any) -> Iterator[None]:
    """Note who or what makes the block's changes; every entry recorded in it carries `data` as JSON.

    Opens `atomic()`. A nested block adds to the outer one's data, and each to what the middleware notes of the
    request, or to django-pghistory's context.

    Raises:
        TypeError: `data` cannot be written as JSON (as Django does it: UUIDs and times can).
    """
    with transaction.atomic(using=using):
        outer = _as_dict(_read("pgcleanup.context", using)) or {**_of_pghistory(using), **noted_of_request()}
        value = as_text({**outer, **data})
        blocks = in_block.get()
        in_block.set(blocks | {using})
        try:
            with _noted("pgcleanup.context", value, using):
                yield
        finally:
            in_block.set(blocks)


def as_text(data: Mapping[str, Any]) -> str:
    """Return a context as the ledger keeps it."""
    return json.dumps(data, cls=DjangoJSONEncoder)


def noted_of_request() -> Mapping[str, Any]:
    """Return what the middleware notes of the request that is served; nothing outside of one."""
    note = of_request.get()
    return note() if note is not None else {}


def _of_pghistory(using: str) -> dict[str, Any]:
    """Return the metadata of django-pghistory's context, where the project uses it. It works on `default` alone.

    Without a context of ours, the triggers read that one themselves.
    """
    pghistory = sys.modules.get("pghistory")
    if pghistory is None or using != DEFAULT_DB_ALIAS:
        return {}
    with pghistory.context() as found:
        return _as_dict(json.dumps(found.metadata, default=str))


@contextmanager
def _noted(parameter: str, value: str, using: str) -> Iterator[None]:
    if connections[using].vendor != "postgresql":
        with transaction.atomic(using=using):
            yield
        return
    with transaction.atomic(using=using):
        before = _read(parameter, using)
        _write(parameter, value, using)
        try:
            yield
        finally:
            # After an error PostgreSQL refuses every statement until the rollback, which puts the
            # previous value back by itself.
            if not connections[using].needs_rollback and _usable(using):
                _write(parameter, before, using)


def _usable(using: str) -> bool:
    raw = connections[using].connection
    return raw is not None and not raw.closed and raw.info.transaction_status.name != "INERROR"


def _read(parameter: str, using: str) -> str:
    if connections[using].vendor != "postgresql":
        return ""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting(%s, true), '')", [parameter])
        value: str = cursor.fetchone()[0]
    return value


def _write(parameter: str, value: str, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [parameter, value])


def _as_dict(text: str) -> dict[str, Any]:
    """Read a context back. One that somebody else wrote in another form is set aside, not an error."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
