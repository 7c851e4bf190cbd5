"""Models with every shape of file column."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import Storage, storages
from django.db import models

from pgcleanup.cleanup import ignore, select


def archive_storage() -> Storage:
    """Return the second storage."""
    return storages["archive"]


def default_cover() -> str:
    """A callable default."""
    return "covers/default.png"


class Document(models.Model):
    """Several file columns, one of them with an index, and room for any name."""

    title = models.CharField(max_length=100, blank=True)
    file = models.FileField(upload_to="docs", blank=True, max_length=2000)
    thumb = models.ImageField(upload_to="thumbs", null=True, blank=True, db_index=True)

    def __str__(self) -> str:
        return self.title


class DocumentTwin(models.Model):
    """A second model on the table of Document."""

    file = models.FileField()

    class Meta:
        managed = False
        db_table = "project_document"

    def __str__(self) -> str:
        return self.file.name or ""


class Attachment(models.Model):
    """Goes with its document, by Django's cascade."""

    document = models.ForeignKey(Document, models.CASCADE, null=True)
    file = models.FileField(upload_to="attachments", blank=True)

    def __str__(self) -> str:
        return self.file.name or ""


class Avatar(models.Model):
    """An image with dimensions and a default."""

    image = models.ImageField(default="avatars/default.png", width_field="width", height_field="height")
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)

    def __str__(self) -> str:
        return self.image.name or ""


class Cover(models.Model):
    """Defaults of the other two kinds."""

    front = models.FileField(default=default_cover)
    back = models.FileField(db_default="covers/back.png", blank=True)

    def __str__(self) -> str:
        return self.front.name or ""


class Archive(models.Model):
    """Files in the second storage."""

    file = models.FileField(storage=archive_storage)

    def __str__(self) -> str:
        return self.file.name or ""


class Odd(models.Model):
    """Names that must be quoted."""

    id = models.AutoField(primary_key=True, db_column='The "" Key')
    file = models.FileField(db_column='"fi""le $pgcleanup$ \\ Name"')

    class Meta:
        db_table = '"Odd ""table"" name"'

    def __str__(self) -> str:
        return self.file.name or ""


class Abstract(models.Model):
    """Inherited by copies of its column."""

    scan = models.FileField(upload_to="scans")

    class Meta:
        abstract = True


class Invoice(Abstract):
    """Has the column of its abstract base."""

    def __str__(self) -> str:
        return self.scan.name or ""


class Place(models.Model):
    """The parent of a multi-table inheritance."""

    photo = models.FileField(upload_to="places")

    def __str__(self) -> str:
        return self.photo.name or ""


class Restaurant(Place):
    """Its child: a table and a column of its own."""

    menu = models.FileField(upload_to="menus", blank=True)


class KeyFileField(models.FileField):
    """A file field that may be a primary key, which Django's own forbids by a check."""

    def _check_primary_key(self) -> list[Any]:
        return []


class NamedFile(models.Model):
    """A file column as the primary key."""

    name = KeyFileField(primary_key=True)  # type: ignore[call-arg]

    def __str__(self) -> str:
        return self.name.name or ""


class Release(models.Model):
    """A many-to-many whose through table is made by Django and holds file names as foreign keys."""

    files = models.ManyToManyField(NamedFile)

    def __str__(self) -> str:
        return str(self.pk)


class Page(models.Model):
    """A composite primary key."""

    pk = models.CompositePrimaryKey("book", "number")
    book = models.CharField(max_length=20)
    number = models.IntegerField()
    scan = models.FileField()

    def __str__(self) -> str:
        return self.scan.name or ""


class PrefixedFileField(models.FileField):
    """What a third party's subclass looks like."""


class Manual(models.Model):
    """A column of a subclass, beside one of an ordinary table that Django does not manage."""

    pdf = PrefixedFileField()

    class Meta:
        managed = False
        db_table = "legacy_manual"

    def __str__(self) -> str:
        return self.pdf.name or ""


@ignore
class Ignored(models.Model):
    """Left alone, but it counts. In the second storage: those of the first are all recorded, as in most projects."""

    file = models.FileField(storage=archive_storage)

    def __str__(self) -> str:
        return self.file.name or ""


@select
class Selected(models.Model):
    """Cleaned up in select mode, too."""

    file = models.FileField()

    def __str__(self) -> str:
        return self.file.name or ""


class Article(models.Model):
    """Holds names in a text column, for PGCLEANUP_EXTRA_REFERENCES."""

    picture = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.picture


class Percent(models.Model):
    """Names with a percent sign, which the ORM itself cannot write: another program's table."""

    file = models.FileField(db_column="file %s %% 100%")

    class Meta:
        managed = False
        db_table = "legacy 100%s"

    def __str__(self) -> str:
        return self.file.name or ""


class Proof(models.Model):
    """A through table as a third party's many-to-many field makes it: auto-created, with a column of its own."""

    release = models.ForeignKey(Release, models.CASCADE, db_constraint=False)
    named_file = models.ForeignKey(NamedFile, models.CASCADE, db_constraint=False)
    file = models.FileField()

    class Meta:
        auto_created = Release

    def __str__(self) -> str:
        return self.file.name or ""
