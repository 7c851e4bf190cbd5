"""The ledger, its stamps, its history, and the table that tells which columns the database knows of.

No foreign keys and no unique keys besides the primary ones: user transactions must never wait for each
other on these tables. `required_db_vendor` keeps Django from creating them in another database than
PostgreSQL, where the app is inert.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class ClockTimestamp(Now):
    """The time of day, even late in a long transaction, whose start is all that now() tells."""

    template = "clock_timestamp()"

    def as_postgresql(self, compiler, connection, **extra_context):  # type: ignore[no-untyped-def]
        return self.as_sql(compiler, connection, **extra_context)


class _WithoutApp:
    """Since Django 6.1 a check asks for django.contrib.postgres in INSTALLED_APPS, of which nothing is used here.

    To migrations these are Django's own.
    """

    def _check_postgres_installed(self, *args: Any) -> list[Any]:
        return []


class PlainArrayField(_WithoutApp, ArrayField):  # type: ignore[type-arg]  # it takes none at run time
    """An array that needs no app."""

    def deconstruct(self) -> Any:
        """Return what Django's own would be made with."""
        name, _, arguments, options = super().deconstruct()
        return name, "django.contrib.postgres.fields.ArrayField", arguments, options


class PlainBrinIndex(_WithoutApp, BrinIndex):
    """A block range index that needs no app."""

    def deconstruct(self) -> Any:
        """Return what Django's own would be made with."""
        _, arguments, options = super().deconstruct()
        return "django.contrib.postgres.indexes.BrinIndex", arguments, options

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the index of a migration, which is Django's own."""
        return isinstance(other, BrinIndex) and self.deconstruct() == other.deconstruct()

    __hash__ = None  # type: ignore[assignment]  # as in Django's own


class Outcome(models.TextChoices):
    """What became of a name. The first five settle its entries, the last two leave them in the ledger."""

    DELETED = "deleted", _("deleted")
    ABSENT = "absent", _("absent")
    KEPT = "kept", _("kept")
    REJECTED = "rejected", _("rejected")
    CANCELLED = "cancelled", _("cancelled")
    POSTPONED = "postponed", _("retrying")
    EXHAUSTED = "exhausted", _("failed")


class Operation(models.TextChoices):
    """What made a name go."""

    UPDATE = "UPDATE", _("update")
    DELETE = "DELETE", _("delete")
    TRUNCATE = "TRUNCATE", _("truncate")
    DROP = "DROP", _("drop")


class Recorded(models.Model):
    """What a record trigger writes: the same columns in the ledger and in the history."""

    source = models.TextField(_("source"), help_text=_("app.model.field that held the name"))
    name = models.TextField(_("file name"))
    object_pk = models.TextField(_("object"), null=True, help_text=_("primary key of the row, where known"))  # noqa: DJ001 -- NULL says unknown
    operation = models.TextField(_("operation"), choices=Operation.choices)
    transaction_id = models.BigIntegerField(_("transaction"))
    db_user = models.TextField(_("database user"))
    application_name = models.TextField(_("application"))
    context = models.TextField(_("context"), null=True)  # noqa: DJ001 -- NULL says none was set
    keep = models.BooleanField(_("keep"), db_default=False)
    recorded_at = models.DateTimeField(_("recorded at"), db_default=ClockTimestamp())

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class PendingFileDeletion(Recorded):
    """The ledger: a name that a row let go, and that no drain has settled yet."""

    stamp_id = models.BigIntegerField(_("stamp"), null=True)
    retry_at = models.DateTimeField(_("retry at"), null=True)
    attempts = models.IntegerField(_("attempts"), db_default=0)
    exhausted_at = models.DateTimeField(_("failed at"), null=True)
    cancelled_at = models.DateTimeField(_("cancelled at"), null=True)
    last_error = models.TextField(_("last error"), db_default="", default="", blank=True)

    class Meta:
        db_table = "pending_file_deletion"
        required_db_vendor = "postgresql"
        verbose_name = _("pending file deletion")
        verbose_name_plural = _("pending file deletions")
        permissions = [
            ("retry_pendingfiledeletion", "Can retry pending file deletions"),
            ("cancel_pendingfiledeletion", "Can cancel pending file deletions"),
        ]
        indexes = [
            # The one index besides the primary key that a user's insert maintains.
            models.Index(fields=["id"], name="pfd_unstamped", condition=Q(stamp_id__isnull=True)),
            # Of the hash, since a B-tree on the name itself makes a user's DELETE fail for a long name.
            # Always asked together with `name =`.
            models.Index(
                Func(F("name"), Value(0), function="hashtextextended"),
                name="pfd_name",
                condition=Q(stamp_id__isnull=False),
            ),
            models.Index(
                fields=["stamp_id", "id"],
                name="pfd_ready",
                condition=Q(stamp_id__isnull=False, retry_at__isnull=True, exhausted_at__isnull=True),
            ),
            models.Index(fields=["retry_at"], name="pfd_retry", condition=Q(retry_at__isnull=False)),
        ]


class FileDeletionStamp(models.Model):
    """A note that entries were seen committed, with the transactions that were open then: their fence."""

    stamped_at = models.DateTimeField(_("seen at"), db_default=ClockTimestamp())
    fence = PlainArrayField(models.TextField(), verbose_name=_("open transactions"))
    # Whether no row named them any more when it was made: see `drain.second_look`.
    checked = models.BooleanField(_("checked"), db_default=False)

    class Meta:
        db_table = "file_deletion_stamp"
        required_db_vendor = "postgresql"
        verbose_name = _("stamp")
        verbose_name_plural = _("stamps")

    def __str__(self) -> str:
        return f"stamp {self.pk}"


class SettledFileDeletion(Recorded):
    """The history: what became of a name, when and why. Never updated."""

    # The entry's own id, which the settlement brings along.
    id = models.BigIntegerField(primary_key=True)
    attempts = models.IntegerField(_("attempts"))
    last_error = models.TextField(_("last error"), db_default="", default="", blank=True)
    cancelled_at = models.DateTimeField(_("cancelled at"), null=True)
    stamped_at = models.DateTimeField(_("seen at"), null=True)
    outcome = models.TextField(_("outcome"), choices=Outcome.choices)
    reason = models.TextField(_("reason"), db_default="", default="", blank=True)
    bytes = models.BigIntegerField(_("bytes"), null=True, help_text=_("on one entry of each deleted file"))
    settled_at = models.DateTimeField(_("settled at"), db_default=ClockTimestamp())
    drained_by = models.TextField(_("drained by"), db_default="", default="", blank=True)

    class Meta:
        db_table = "settled_file_deletion"
        required_db_vendor = "postgresql"
        verbose_name = _("settled file deletion")
        verbose_name_plural = _("settled file deletions")
        # Rows come in the order of their settlement: a block range index finds old ones at next to no cost.
        indexes = [PlainBrinIndex(fields=["settled_at"], name="sfd_settled_at")]


class FileDeletionColumn(models.Model):
    """A file column that the database knows of, as the last `migrate` or `pgcleanup sync` wrote it.

    Not managed by Django, so that `flush`, and with it every TransactionTestCase, leaves it alone.
    """

    source = models.TextField(_("source"), primary_key=True)
    # A regclass; NULL where the model has no table in this database.
    table_name = models.TextField(_("table"), null=True)  # noqa: DJ001
    attnum = models.SmallIntegerField(_("attribute number"), null=True)
    # NULL: may name a file of any storage.
    storage_key = models.TextField(_("storage"), null=True)  # noqa: DJ001

    class Meta:
        managed = False
        db_table = "file_deletion_column"
        required_db_vendor = "postgresql"
        verbose_name = _("file column")
        verbose_name_plural = _("file columns")

    def __str__(self) -> str:
        return self.source


class FileDeletionControl(models.Model):
    """What holds for every drain of this database: one row, if any. See `ledger.control`."""

    id = models.SmallIntegerField(primary_key=True, default=1, db_default=1)
    paused_at = models.DateTimeField(_("paused at"), null=True)
    paused_by = models.TextField(_("paused by"), db_default="", default="", blank=True)
    pause_reason = models.TextField(_("reason"), db_default="", default="", blank=True)
    # Which database the drains know this one as. NULL before the first drain.
    system_identifier = models.BigIntegerField(_("server"), null=True)
    database_oid = models.BigIntegerField(_("database"), null=True)
    database_name = models.TextField(_("database name"), db_default="", default="", blank=True)
    addresses = PlainArrayField(
        models.TextField(), verbose_name=_("addresses"), db_default=[], default=list, blank=True
    )
    drained_at = models.DateTimeField(_("last drained at"), null=True)
    identified_at = models.DateTimeField(_("known since"), null=True)
    identified_by = models.TextField(_("known by"), db_default="", default="", blank=True)

    class Meta:
        db_table = "file_deletion_control"
        required_db_vendor = "postgresql"
        verbose_name = _("control")
        verbose_name_plural = _("control")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="fdc_one_row")]

    def __str__(self) -> str:
        return "paused" if self.paused_at else "not paused"
