"""The models of the demo site. Nothing in them knows of pgcleanup."""

from __future__ import annotations

from django.core.files.storage import Storage, storages
from django.db import models
from easy_thumbnails.fields import ThumbnailerImageField


def archive() -> Storage:
    """Return the second storage."""
    return storages["archive"]


class Document(models.Model):
    """A PDF. Two documents may name one file."""

    slug = models.SlugField(unique=True)
    file = models.FileField(upload_to="documents")

    def __str__(self) -> str:
        return self.slug


class Photo(models.Model):
    """A picture, with the thumbnails that easy-thumbnails makes of it."""

    title = models.CharField(max_length=50)
    image = ThumbnailerImageField(upload_to="photos")

    def __str__(self) -> str:
        return self.title


class Profile(models.Model):
    """Somebody with an avatar, or with the one that everybody has at first."""

    name = models.CharField(max_length=50)
    avatar = models.ImageField(upload_to="avatars", default="avatars/default.png")

    def __str__(self) -> str:
        return self.name


class Invoice(models.Model):
    """A PDF in the archive, which is another storage."""

    number = models.IntegerField()
    file = models.FileField(storage=archive, upload_to="invoices")

    def __str__(self) -> str:
        return str(self.number)


class Folder(models.Model):
    """Scans belong to a folder."""

    title = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.title


class Scan(models.Model):
    """Goes with its folder by the database's own cascade (in the migration): Django knows nothing of it."""

    folder = models.ForeignKey(Folder, models.DO_NOTHING, db_constraint=False)
    file = models.FileField(upload_to="scans")

    def __str__(self) -> str:
        return self.file.name or ""


class Goodbye(models.Model):
    """What a receiver of `cleanup_post_delete` noted. A real one might purge a CDN."""

    name = models.TextField()
    said_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
