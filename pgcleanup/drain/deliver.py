"""The signals of one name, and deleting by the field's own class where that does more than delete."""

from __future__ import annotations

import json
import logging
from copy import copy
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, OperationalError, models, transaction
from django.db.models.base import ModelState
from django.db.models.fields.files import FieldFile, ImageFieldFile
from django.dispatch import Signal
from psycopg.errors import LockNotAvailable

from pgcleanup import sql
from pgcleanup.columns import FileColumn
from pgcleanup.drain.meanwhile import Receivers
from pgcleanup.ledger.claims import Claim, Newest
from pgcleanup.ledger.history import context_value
from pgcleanup.models import Operation
from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete

logger = logging.getLogger("pgcleanup.drain")

_ROW_LOCK_TIMEOUT = "500ms"


class ReceiverError(Exception):
    """A receiver raised; its own writes are undone. The first error is the cause."""


class Delivery:
    """What the receivers of one name get to see. Made only where somebody looks: it costs two instances."""

    def __init__(self, using: str, column: FileColumn, claim: Claim, receivers: Receivers) -> None:
        field: Any = column.field
        newest = told_of(claim)
        self.using = using
        self.receivers = receivers
        self.name = claim.name
        self.sender = column.model
        with_name = newest.operation != Operation.UPDATE and not _row_exists(using, column, claim)
        # Bound to an instance of its own: FieldFile.delete() clears the attribute of the one it has, and saves it.
        bound = _unsaved(known_instance(using, column, claim, with_name))
        self.file: FieldFile = field.attr_class(bound, field, claim.name)
        default = field.default
        self.arguments: dict[str, Any] = {
            "deleted": newest.operation != Operation.UPDATE,
            "updated": newest.operation == Operation.UPDATE,
            "model_name": column.model._meta.label_lower,
            "field_name": field.name,
            "file_name": claim.name,
            # An instance of NOT_PROVIDED where there is none, as django-cleanup gives it.
            "default_file_name": default() if callable(default) else default,
            "file": self.file,
            "instance": known_instance(using, column, claim, with_name),
            "object_pk": newest.object_pk,
            "operation": newest.operation,
            "context": context_value(newest.context),
        }

    def before(self) -> None:
        """Send `cleanup_pre_delete`. Where a receiver set `file.name` to None, the file is to be kept.

        Raises:
            ReceiverError: the file must stay for now; the receiver may be one that archives it.
        """
        try:
            self._send(cleanup_pre_delete, self.arguments)
        finally:
            # A receiver that reads it leaves it open, as an archiver does.
            self.file.close()

    def delete(self) -> None:
        """Delete the file by its field's own class, what that does in the database included."""
        # A receiver may have written another name there, that of a file which nobody let go.
        self.file.name = self.name
        with transaction.atomic(using=self.using):
            self.file.delete(save=False)

    def delete_the_rest(self) -> None:
        """Have the field's class do what it does besides deleting the file, which a receiver has deleted."""
        # The name is free, and an upload may take it at any moment: by now it may be another file's.
        storage: Any = self.file.storage
        delete = storage.delete  # before the copy: one of a lazy object that nobody has used would be the original
        spared = copy(storage)
        spared.delete = lambda name: None if name == self.name else delete(name)
        self.file.storage = spared
        try:
            self.delete()
        finally:
            self.file.storage = storage

    def after(self, error: Exception | None = None) -> None:
        """Send `cleanup_post_delete`. A receiver that raises is logged."""
        if error is None:
            self.file.name = None
        try:
            self._send(cleanup_post_delete, {**self.arguments, "success": error is None, "error": error})
        except ReceiverError as failure:
            logger.error("A cleanup_post_delete receiver failed for %s: %s", self.name, failure, exc_info=failure)

    def _send(self, signal: Signal, arguments: dict[str, Any]) -> None:
        if not signal.has_listeners(self.sender):
            return
        try:
            # A savepoint: what a failing receiver wrote is undone, and a statement of its that failed
            # does not take the drain's own transaction down.
            with self.receivers.at_work(), transaction.atomic(using=self.using):
                for _, response in signal.send_robust(self.sender, **arguments):
                    if isinstance(response, Exception):
                        raise ReceiverError(f"{type(response).__name__}: {response}") from response
        except DatabaseError as error:
            raise ReceiverError(f"{type(error).__name__}: {error}") from error


def told_of(claim: Claim) -> Newest:
    """Return what receivers are told of a name."""
    if claim.newest is None:
        raise LookupError(f"{claim.name} was claimed for nobody who listens")
    return claim.newest


def has_receivers(column: FileColumn) -> bool:
    """Whether anybody listens to the signals of this column's model. Of a column that was dropped there are none."""
    if column.dropped:
        return False
    return cleanup_pre_delete.has_listeners(column.model) or cleanup_post_delete.has_listeners(column.model)


def deletes_by_itself(column: FileColumn) -> bool:
    """Whether the field's class has a `delete` of its own, as thumbnail libraries do.

    Anywhere in its bases: ImageFieldFile's own calls the next one, and easy-thumbnails puts its class behind it.
    """
    bases = column.field.attr_class.__mro__  # type: ignore[attr-defined]  # a FileField
    return any("delete" in vars(base) for base in bases if base not in (FieldFile, ImageFieldFile))


def known_instance(using: str, column: FileColumn, claim: Claim, with_name: bool) -> models.Model:
    """Return an instance with nothing but its primary key loaded, and with the old name if its row is gone.

    Any other attribute loads the row as it is now, or raises DoesNotExist. `save()` can neither bring a
    row back nor write an old name: it has nothing to write, or no row to write it to.

    A model whose `__init__` reads a field, as many do to compare with it later, would load the row with that, which
    may be gone. Its instance is made without calling it.
    """
    model = column.model
    key = _key_by_attribute(model, claim)
    loaded = [field.attname for field in model._meta.concrete_fields if field.attname in key]
    values = [key[name] for name in loaded]
    try:
        instance = model.from_db(using, loaded, values)
    except DatabaseError:
        # It has ended the transaction, too, and another instance would be of no use.
        raise
    except Exception:  # whatever a model of somebody's own raises
        instance = model.__new__(model)
        instance._state = ModelState()
        instance._state.adding = False
        instance._state.db = using
        vars(instance).update(zip(loaded, values, strict=True))
    if with_name:
        # Not through the attribute: an ImageField would open the file for its dimensions.
        instance.__dict__[column.field.attname] = claim.name
    return instance


def _unsaved(instance: models.Model) -> models.Model:
    """Return the instance with a `save` that does nothing.

    FieldFile's `save()` and `delete()` save their row by default, with the name that they have just changed. That row
    has another file by now, or is gone.
    """
    vars(instance).update(save=_save_nothing, asave=_save_nothing_async)
    return instance


def _save_nothing(*args: Any, **kwargs: Any) -> None:
    pass


async def _save_nothing_async(*args: Any, **kwargs: Any) -> None:
    pass


def _row_exists(using: str, column: FileColumn, claim: Claim) -> bool:
    """Whether the key of a row that let the name go is in use, again or still."""
    key = _key_by_attribute(column.model, claim)
    if None in key.values():
        return False
    # A savepoint, rolled back at once: no lock on a user's table stays while a storage is called, and a table
    # that cannot be read does not take the batch's transaction down.
    try:
        with transaction.atomic(using=using):
            sql.set_local(using, lock_timeout=_ROW_LOCK_TIMEOUT)
            exists = column.model._base_manager.using(using).filter(**key).exists()
            transaction.set_rollback(True, using=using)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        # Whoever has locked the table is not waited for: of a row that may be there the instance loads the names.
        return True
    return exists


def _key_by_attribute(model: type[models.Model], claim: Claim) -> dict[str, Any]:
    return dict(zip((field.attname for field in model._meta.pk_fields), _primary_key(model, claim), strict=True))


def _primary_key(model: type[models.Model], claim: Claim) -> list[Any]:
    """Return the values of the primary key as recorded; None for one that its field no longer understands."""
    fields = model._meta.pk_fields
    object_pk = told_of(claim).object_pk
    if object_pk is None:
        return [None] * len(fields)
    try:
        texts = json.loads(object_pk) if len(fields) > 1 else [object_pk]
        return [field.to_python(text) for field, text in zip(fields, texts, strict=True)]
    except (ValueError, ValidationError):
        return [None] * len(fields)
