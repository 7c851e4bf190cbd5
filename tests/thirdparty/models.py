"""What an app of somebody else's brings along: a file column, and a migrations folder that is not ours to write in."""

from __future__ import annotations

from django.db import models


class Brochure(models.Model):
    """A model that its project can only install, not change."""

    file = models.FileField(upload_to="brochures")

    def __str__(self) -> str:
        return self.file.name or ""
