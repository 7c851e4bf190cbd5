"""Loading, saving and deleting instances: nothing of ours runs in Python."""

from __future__ import annotations

from django.db import connection, models
from django.db.models import signals
from django.test.utils import CaptureQueriesContext

from benchmarks.shop.models import Item, Part


def measure() -> list[tuple[str, str, str]]:
    """Return (what, target, result) rows."""
    kinds = ("pre_init", "post_init", "pre_save", "post_save", "pre_delete", "post_delete")
    listening = [name for name in kinds if _receivers(getattr(signals, name), Item)]
    items = Item.objects.bulk_create(Item(title=str(number), file=f"f/{number}", thumb="") for number in range(100))
    Part.objects.bulk_create(Part(item=item) for item in items)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        Item.objects.all().delete()
    deletes = [query["sql"] for query in queries if query["sql"].startswith("DELETE")]
    return [
        ("receivers on a model with files", "none", ", ".join(listening) or "none"),
        ("QuerySet.delete() of 100 rows with children: DELETE statements", "2 (fast)", str(len(deletes))),
    ]


def _receivers(signal: models.signals.ModelSignal, model: type[models.Model]) -> bool:
    return signal.has_listeners(model)
