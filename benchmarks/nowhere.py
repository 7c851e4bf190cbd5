"""A storage whose files cost nothing, for what is to be measured without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible

from pgcleanup.storages import register
from pgcleanup.storages.base import Adapter, Presence, Seen


@deconstructible
class Nowhere(Storage):
    """Has every file, whatever happens to it."""


class NowhereAdapter(Adapter):
    """Says that all of them are there, and that all of them are gone."""

    at_once = at_first = 10_000

    def look_many(self, names: Sequence[str]) -> dict[str, Seen | Exception]:
        return dict.fromkeys(names, Seen(Presence.PRESENT, timedelta(days=1), 100))

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        return dict.fromkeys(files)


register(Nowhere, NowhereAdapter)
