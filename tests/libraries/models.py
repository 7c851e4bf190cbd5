"""One model for each library."""

from __future__ import annotations

import pghistory
from django.db import models
from easy_thumbnails.fields import ThumbnailerImageField
from simple_history.models import HistoricalRecords
from sorl.thumbnail import ImageField as SorlImageField


class Letter(models.Model):
    """django-simple-history copies its rows, with the file's name as text."""

    file = models.FileField()
    history = HistoricalRecords()

    def __str__(self) -> str:
        return self.file.name or ""


@pghistory.track()
class Contract(models.Model):
    """django-pghistory copies its rows, with the file's name in a FileField."""

    file = models.FileField()

    def __str__(self) -> str:
        return self.file.name or ""


class Portrait(models.Model):
    """easy-thumbnails' own field deletes the thumbnails with the image."""

    image = ThumbnailerImageField(upload_to="portraits")

    def __str__(self) -> str:
        return self.image.name or ""


class Poster(models.Model):
    """sorl-thumbnail deletes them where a receiver asks it to."""

    image = SorlImageField(upload_to="posters")

    def __str__(self) -> str:
        return self.image.name or ""
