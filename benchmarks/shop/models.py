"""One table to measure, and forty-nine to keep a sync busy."""

from __future__ import annotations

from django.contrib.postgres.indexes import HashIndex
from django.db import models


class Document(models.Model):
    """One file, as most models have it, with the index that finds its name in any number of rows."""

    title = models.CharField(max_length=50)
    file = models.FileField(max_length=200)

    class Meta:
        indexes = (HashIndex(fields=["file"], name="shop_document_file"),)

    def __str__(self) -> str:
        return self.title


class Archive(models.Model):
    """One file, without an index."""

    file = models.FileField(max_length=200)

    def __str__(self) -> str:
        return str(self.file)


class Upload(models.Model):
    """Its storage is the bucket of whoever measures."""

    file = models.FileField(max_length=200)

    def __str__(self) -> str:
        return str(self.file)


class Item(models.Model):
    """Two file columns, and one that has nothing to do with files."""

    title = models.CharField(max_length=50)
    file = models.FileField(max_length=200)
    thumb = models.FileField(max_length=200)

    def __str__(self) -> str:
        return self.title


class Part(models.Model):
    """Goes with its item; no file, so that a cascade can be fast."""

    item = models.ForeignKey(Item, models.CASCADE)

    def __str__(self) -> str:
        return str(self.pk)


def _shelf(number: int) -> type[models.Model]:
    meta = type("Meta", (), {"app_label": "shop"})
    return type(
        f"Shelf{number:02}", (models.Model,), {"__module__": __name__, "file": models.FileField(), "Meta": meta}
    )


SHELVES = [_shelf(number) for number in range(46)]
